"""The HeavyQueues of the end-to-end proofs: one way to end, one queue."""

from __future__ import annotations

from typing import Any

from tests.proofs.kube import Json

SECURITY: Json = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
TRAP = """case "$HEAVYLIFT_JOB_EXECUTION" in
*-1) trap 'exit 0' TERM; while :; do sleep 0.1; done ;;
*) printf '"ran again"' > "$HEAVYLIFT_JOB_RESULT_FILE" ;;
esac
"""
PASSWORD = "correct-horse"
SCRATCH = "/tmp"  # noqa: S108 - the pod's own volume


def queue(name: str, namespace: str, image: str, *, container: Json | None = None, **spec: Any) -> Json:
    """Return a HeavyQueue whose container runs the proof's tasks as the restricted pod security asks."""
    main: Json = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["heavylift", "run", "proof_tasks"],
        "env": [{"name": "PYTHONPATH", "value": "/tasks"}],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "96Mi"}},
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "tasks", "mountPath": "/tasks"}, {"name": "tmp", "mountPath": SCRATCH}],
        **(container or {}),
    }
    pod: Json = {
        "containers": [main],
        "terminationGracePeriodSeconds": 20,
        "volumes": [{"name": "tasks", "configMap": {"name": "proof-tasks"}}, {"name": "tmp", "emptyDir": {}}],
    }
    return {
        "apiVersion": "heavylift.dev/v1alpha1",
        "kind": "HeavyQueue",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**spec, "jobTemplate": {"spec": {"template": {"spec": pod}}}},
    }


def queues(namespace: str, image: str) -> list[Json]:
    """Return all queues of the proofs."""
    fixed = {"type": "Fixed", "delay": "3s", "jitterPercent": 0}
    second = {"type": "Fixed", "delay": "1s", "jitterPercent": 0}
    secret = {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}
    env = [{"name": "PYTHONPATH", "value": "/tasks"}, secret]
    huge = {"requests": {"cpu": "4000", "memory": "32Mi"}}
    return [
        queue("tasks", namespace, image, defaults={"maxAttempts": 1, "backoff": fixed}),
        queue(
            "growing",
            namespace,
            image,
            container={"resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "64Mi"}}},
            defaults={"maxAttempts": 2, "backoff": second},
            outcomes={"oom": {"action": "Retry", "memory": {"growthPercent": 150, "max": "160Mi"}}},
        ),
        queue("trap", namespace, image, container={"command": ["sh", "-c", TRAP]}, defaults={"backoff": second}),
        queue("secret", namespace, image, container={"env": env}),
        queue(
            "image",
            namespace,
            "registry.invalid/no/such:1",
            defaults={"backoff": second},
            timeouts={"pending": "8s"},
            outcomes={"image": {"action": "Requeue", "maxRetries": 1}},
            breaker={"consecutiveFailures": 100},
        ),
        queue(
            "huge",
            namespace,
            image,
            container={"resources": huge},
            timeouts={"pending": "20s"},
            outcomes={"unschedulable": {"action": "Fail"}},
        ),
    ]
