"""What the command line does with the user's own kubeconfig: reach Redis, read logs, look at the installation.

The only importer of the Kubernetes client in the command line; it needs the extra ``kube``.
"""

from __future__ import annotations

import base64
import codecs
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from heavylift.cli.forward import listening
from heavylift.cli.installation import Right
from heavylift.contract import ids
from heavylift.contract.names import GROUP, VERSION, Label
from heavylift.errors import ClusterUnavailableError, ConfigurationError, JobNotFoundError
from heavylift.store.model import JobRecord

try:
    from kubernetes import client as _client
    from kubernetes import config as _config
    from kubernetes.stream import portforward as _portforward
except ImportError as error:
    raise ConfigurationError(
        "this needs the Kubernetes client: pip install 'heavylift[kube]' "
        "(without it: kubectl port-forward and --redis; kubectl logs)"
    ) from error

kubernetes: Any = _client  # ships no usable types
config: Any = _config
_NOT_FOUND, _FORBIDDEN, _UNAUTHORIZED, _BAD_REQUEST = 404, 403, 401, 400
_TIMEOUT_S = 10
_OF_RELEASE = "app.kubernetes.io/name=heavylift,app.kubernetes.io/instance"
_REDIS_PORT = 6379


def _core() -> Any:
    """Return the core API of the current kubeconfig context.

    Raises:
        ConfigurationError: there is no usable kubeconfig.
    """
    _load_config()
    return kubernetes.CoreV1Api()


def _load_config() -> None:
    try:
        config.load_kube_config()
    except (config.ConfigException, OSError, ValueError) as error:
        try:
            config.load_incluster_config()
        except config.ConfigException:
            remedy = "set KUBECONFIG (--redis URL does in place of --kube, and render takes a --file)"
            message = f"no usable kubeconfig ({error}): {remedy}"
            raise ConfigurationError(message) from None


@contextlib.contextmanager
def _answers(what: str) -> Iterator[None]:
    """Turn the client's errors into ours; ``what`` is what was asked for.

    Raises:
        ConfigurationError: refused or not there; the message says what to check.
        ClusterUnavailableError: no answer.
    """
    try:
        yield
    except kubernetes.ApiException as error:
        if error.status == _NOT_FOUND:
            raise ConfigurationError(f"the cluster has no {what}") from None
        if error.status in {_FORBIDDEN, _UNAUTHORIZED}:
            raise ConfigurationError(f"your kubeconfig may not read {what}: ask for a Role that may") from None
        raise ClusterUnavailableError(f"the cluster refuses {what}: {error.status} {_said(error)}") from None
    except (OSError, _http_errors()) as error:
        text = ids.printable(str(error), 300)
        raise ClusterUnavailableError(f"the cluster does not answer (asked for {what}): {text}") from None


def _http_errors() -> Any:
    import urllib3.exceptions  # noqa: PLC0415 - comes with the Kubernetes client

    return urllib3.exceptions.HTTPError


# -- Redis ------------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def forwarded_redis(namespace: str, release: str) -> Iterator[str]:
    """Forward a local port to the installation's own Redis for the block and give its URL.

    Args:
        namespace: where Heavylift is installed.
        release: its Helm release.

    Raises:
        ConfigurationError: no embedded Redis there, or not readable; the message says what to do.
        ClusterUnavailableError: the cluster does not answer.
    """
    api = _core()
    pod = _redis_pod(api, namespace, release)
    password = _password(api, namespace, pod)
    name = pod.metadata.name

    def connect() -> Any:
        with _answers(f"port {_REDIS_PORT} of pod {namespace}/{name}"):
            call = kubernetes.CoreV1Api(kubernetes.ApiClient()).connect_get_namespaced_pod_portforward
            return _portforward(call, name, namespace, ports=str(_REDIS_PORT)).socket(_REDIS_PORT)

    with listening(connect) as port:
        yield f"redis://:{quote(password, safe='')}@127.0.0.1:{port}/0" if password else f"redis://127.0.0.1:{port}/0"


def _redis_pod(api: Any, namespace: str, release: str) -> Any:
    selector = (
        f"app.kubernetes.io/part-of=heavylift,app.kubernetes.io/component=redis,app.kubernetes.io/instance={release}"
    )
    with _answers(f"pods in namespace {namespace}"):
        pods = api.list_namespaced_pod(namespace, label_selector=selector, _request_timeout=_TIMEOUT_S).items
    running = [pod for pod in pods if pod.status.phase == "Running" and pod.metadata.deletion_timestamp is None]
    if running:
        return running[0]
    state = "there is no such pod"
    if pods:
        going = pods[0].metadata.deletion_timestamp is not None
        state = f"its pod {pods[0].metadata.name} is {'being deleted' if going else pods[0].status.phase}"
    raise ConfigurationError(
        f"release {release} in namespace {namespace} has no running Redis of its own ({state}): check --kube and "
        "--release, or with an external Redis give --redis URL"
    )


def _password(api: Any, namespace: str, pod: Any) -> str | None:
    """Return the password from the Secret that the Redis pod mounts."""
    source = next((volume.secret for volume in pod.spec.volumes or () if volume.secret is not None), None)
    if source is None:
        return None
    key = source.items[0].key if source.items else "password"
    with _answers(f"Secret {namespace}/{source.secret_name}"):
        secret = api.read_namespaced_secret(source.secret_name, namespace, _request_timeout=_TIMEOUT_S)
    raw = (secret.data or {}).get(key)
    if not raw:
        raise ConfigurationError(f"Secret {namespace}/{source.secret_name} has no {key}")
    return base64.b64decode(raw).decode()


# -- logs -------------------------------------------------------------------------------------------------------------
def print_logs(record: JobRecord, *, seq: int | None, follow: bool, tail: int | None) -> None:
    """Print the log of one execution's container.

    Args:
        record: the job.
        seq: number of the start; None = the current or last one.
        follow: go on until the container ends.
        tail: only this many lines.

    Raises:
        JobNotFoundError: its pod is gone, or never was.
        ConfigurationError, ClusterUnavailableError: the cluster cannot be asked.
    """
    if not record.namespace:
        raise JobNotFoundError(f"job {record.id} has not started yet: it has no log (heavylift jobs why {record.id})")
    api = _core()
    pod = _pod_of(api, record, seq)
    container = (pod.metadata.annotations or {}).get("heavylift.dev/container") or pod.spec.containers[0].name
    options: dict[str, Any] = {"container": container, "follow": follow, "_preload_content": False}
    if tail is not None:
        options["tail_lines"] = tail
    with _answers(f"the log of pod {record.namespace}/{pod.metadata.name}"):
        try:
            stream = api.read_namespaced_pod_log(pod.metadata.name, record.namespace, **options)
        except kubernetes.ApiException as error:
            if error.status == _BAD_REQUEST:
                raise JobNotFoundError(f"there is no log yet: {_said(error)}") from None
            raise
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for chunk in stream.stream():
            sys.stdout.write(decoder.decode(chunk))
            sys.stdout.flush()


def _said(error: Any) -> str:
    """Return the API server's own words."""
    try:
        return ids.printable(str(json.loads(error.body)["message"]), 500)
    except (ValueError, TypeError, KeyError):
        return ids.printable(str(error.reason or error), 500)


def _pod_of(api: Any, record: JobRecord, seq: int | None) -> Any:
    execution = record.execution or (str(record.history[-1].get("execution") or "") if record.history else "")
    if seq is not None:
        execution = ids.execution_id(record.incarnation, seq)
    selector = f"{Label.JOB}={ids.short_hash(record.id)}"
    with _answers(f"pods in namespace {record.namespace}"):
        pods = api.list_namespaced_pod(record.namespace, label_selector=selector, _request_timeout=_TIMEOUT_S).items
    for pod in pods:
        if (pod.metadata.annotations or {}).get("heavylift.dev/execution") == execution:
            return pod
    which = f"start {seq}" if seq is not None else "the last start"
    raise JobNotFoundError(
        f"the pod of {which} of job {record.id} is not in namespace {record.namespace} (any more): what was kept of "
        f"its log is in heavylift jobs show {record.id}"
    )


# -- doctor -----------------------------------------------------------------------------------------------------------
def kinds_served() -> set[str]:
    """Return the plural names of our kinds that the cluster serves.

    Raises:
        ConfigurationError, ClusterUnavailableError: the cluster cannot be asked.
    """
    _load_config()
    with _answers("the custom resources"):
        try:
            found = kubernetes.CustomObjectsApi().get_api_resources(GROUP, VERSION, _request_timeout=_TIMEOUT_S)
        except kubernetes.ApiException as error:
            if error.status == _NOT_FOUND:
                return set()
            raise
    return {str(resource.name) for resource in found.resources}


def skew_ms() -> int | None:
    """Return how far the API server's clock is ahead of ours, to the second; None when it tells no time.

    Raises as ``kinds_served``.
    """
    _load_config()
    with _answers("the version of the cluster"):
        before = time.time()
        _, _, headers = kubernetes.VersionApi().get_code_with_http_info(_request_timeout=_TIMEOUT_S)
        ours = (before + time.time()) / 2
    try:
        theirs = parsedate_to_datetime(str(headers.get("Date"))).timestamp()
    except (TypeError, ValueError):
        return None
    return round((theirs - ours) * 1000)


def api_service(name: str) -> dict[str, Any] | None:
    """Return an APIService, None when there is none; raises as ``kinds_served``."""
    _load_config()
    path = ("apiregistration.k8s.io", "v1", "apiservices", name)
    with _answers(f"the APIService {name}"):
        try:
            found = kubernetes.CustomObjectsApi().get_cluster_custom_object(*path, _request_timeout=_TIMEOUT_S)
        except kubernetes.ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise
    return found if isinstance(found, dict) else None


def heavyqueues(namespace: str | None = None) -> list[dict[str, Any]]:
    """Return the HeavyQueues of a namespace, or all the kubeconfig may list; raises as ``kinds_served``."""
    _load_config()
    api = kubernetes.CustomObjectsApi()
    where = "all namespaces (name one with --namespace)" if namespace is None else f"namespace {namespace}"
    with _answers(f"HeavyQueues in {where}"):
        if namespace is None:
            found = api.list_cluster_custom_object(GROUP, VERSION, "heavyqueues", _request_timeout=_TIMEOUT_S)
        else:
            path = (GROUP, VERSION, namespace, "heavyqueues")
            found = api.list_namespaced_custom_object(*path, _request_timeout=_TIMEOUT_S)
    items = found.get("items", [])
    return [item for item in items if isinstance(item, dict)]


def may(verb: str, resource: str, namespace: str, *, group: str = "", subresource: str = "") -> bool:
    """Return whether the kubeconfig's user may do this; raises as ``kinds_served``."""
    _load_config()
    attributes = {
        "verb": verb,
        "resource": resource,
        "namespace": namespace,
        "group": group,
        "subresource": subresource,
    }
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
    with _answers("your own rights"):
        review = kubernetes.AuthorizationV1Api().create_self_subject_access_review(
            {**body, "spec": {"resourceAttributes": attributes}}, _request_timeout=_TIMEOUT_S
        )
    return bool(review.status.allowed)


def account_may(account: str, namespace: str, verb: str, right: Right) -> bool:
    """Return whether a service account (``system:serviceaccount:...``) may do this; raises as ``kinds_served``."""
    _load_config()
    attributes = {"verb": verb, "resource": right.resource, "namespace": namespace, "group": right.group}
    if right.subresource:
        attributes["subresource"] = right.subresource
    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview"}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{account.split(':')[2]}", "system:authenticated"]
    spec = {"user": account, "groups": groups, "resourceAttributes": attributes}
    with _answers("the rights of service accounts"):
        review = kubernetes.AuthorizationV1Api().create_subject_access_review(
            {**body, "spec": spec}, _request_timeout=_TIMEOUT_S
        )
    return bool(review.status.allowed)


def accounts(namespace: str, release: str) -> dict[str, str]:
    """Return the release's service accounts as users, by component; raises as ``kinds_served``."""
    return {
        str((item.metadata.labels or {}).get("app.kubernetes.io/component")): (
            f"system:serviceaccount:{namespace}:{item.spec.template.spec.service_account_name or 'default'}"
        )
        for item in _deployments(namespace, release)
    }


def _deployments(namespace: str, release: str) -> list[Any]:
    _load_config()
    selector = f"{_OF_RELEASE}={release}"
    with _answers(f"Deployments in namespace {namespace}"):
        found = kubernetes.AppsV1Api().list_namespaced_deployment(
            namespace, label_selector=selector, _request_timeout=_TIMEOUT_S
        )
    return list(found.items)


def unready(namespace: str, release: str) -> dict[str, str]:
    """Return the release's Deployments that are not wholly ready, with their state; raises as ``kinds_served``."""
    found = _deployments(namespace, release)
    if not found:
        return {release: f"there is no such release in namespace {namespace}"}
    return {
        item.metadata.name: f"{item.status.ready_replicas or 0} of {item.spec.replicas} replicas are ready"
        for item in found
        if (item.status.ready_replicas or 0) < (item.spec.replicas or 0)
    }
