"""The command line: ``python -m tests.cluster up|down|status|build|kubeconfig|images|doctor``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster import build, controlplane, doctor
from tests.cluster.cluster import Cluster, down, running, up
from tests.cluster.errors import ClusterError
from tests.cluster.spec import SHAPES, ClusterSpec

DESCRIPTION = "Builds, starts and stops a real Kubernetes on this machine."
EXAMPLES = """\
examples:
  python -m tests.cluster up                          control plane, two simulated nodes; no root needed
  python -m tests.cluster up --nodes=real             one real node: kubelet, containerd, CoreDNS; needs root
  python -m tests.cluster up --name=kills --kcm-flag=--kube-api-qps=500 --kcm-flag=--concurrent-job-syncs=20
  export KUBECONFIG="$(python -m tests.cluster kubeconfig)"
  python -m tests.cluster images heavylift redis      builds these of images/images.toml and loads them
  python -m tests.cluster status                      what runs
  python -m tests.cluster down --name=kills           removes all of it
  python -m tests.cluster doctor --nodes=real         what is missing here, and how to get it

Without --name `up` and `down` mean the cluster named after its shape, so that one of each can run; other commands
mean the one that runs, whatever its name and shape.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed, 2 wrong usage, 3 no such cluster."""
    args = parser().parse_args(argv)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "up": _up,
        "down": _down,
        "status": _status,
        "build": _build,
        "kubeconfig": _kubeconfig,
        "images": _images,
        "doctor": _doctor,
    }
    try:
        return commands[args.command](args)
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    started = commands.add_parser("up", help="start a cluster; does nothing if it already runs as asked")
    _which(started, default="kwok")
    started.add_argument("--node-count", type=int, default=2, help="simulated nodes (default 2)")
    for short, program in (("kcm", "controller-manager"), ("apiserver", "apiserver"), ("scheduler", "scheduler")):
        text = f"further flag of kube-{program}, such as --v=2"
        started.add_argument(f"--{short}-flag", action="append", default=[], metavar="FLAG", help=text)
    for name, text in (
        ("down", "stop a cluster and remove all it left, also one whose start was killed"),
        ("status", "say which components run"),
        ("kubeconfig", "print the path of the administrator's kubeconfig"),
        ("build", "build the programs only, once per version, into the user's cache folder"),
        ("doctor", "say what is missing on this machine and how to get it"),
    ):
        _which(commands.add_parser(name, help=text), default="kwok" if name in {"build", "doctor"} else None)
    loaded = commands.add_parser("images", help="build images and load them into a real cluster; list what it has")
    _which(loaded, default="real")
    loaded.add_argument("images", nargs="*", metavar="IMAGE", help="name in images/images.toml, or an archive")
    return top


def _which(command: argparse.ArgumentParser, default: str | None) -> None:
    text = "simulated nodes or a real one" + (f" (default {default})" if default else "")
    command.add_argument("--nodes", choices=SHAPES, default=default, help=text)
    command.add_argument("--name", help="tells clusters apart (default: the shape)")
    command.add_argument("--state", type=Path, help="folder for all the cluster writes")


def _up(args: argparse.Namespace) -> int:
    started = time.monotonic()
    spec = ClusterSpec(
        nodes=args.nodes,
        name=args.name or args.nodes,
        state=args.state,
        node_count=args.node_count,
        kcm_flags=tuple(args.kcm_flag),
        apiserver_flags=tuple(args.apiserver_flag),
        scheduler_flags=tuple(args.scheduler_flag),
    )
    cluster = up(spec)
    print(f"cluster {cluster.name} is up ({time.monotonic() - started:.1f} s). To use it:")
    print(f"  export KUBECONFIG={cluster.kubeconfig}")
    print(f"  {cluster.bin('kubectl')} get nodes")
    return 0


def _down(args: argparse.Namespace) -> int:
    names = [args.name] if args.name else [args.nodes] if args.nodes else list(SHAPES)
    gone = [name for name in names if down(name, args.state, nodes=args.nodes)]
    print(f"gone: {', '.join(gone)}" if gone else f"no cluster {' or '.join(names)}")
    return 0


def _one(args: argparse.Namespace) -> Cluster | None:
    """Return the cluster that is meant; say so if there is none, or more than one."""
    found = running(args.nodes, args.name, args.state)
    if len(found) == 1:
        return found[0]
    if found:
        print(f"several run, give --name: {', '.join(cluster.name for cluster in found)}", file=sys.stderr)
    else:
        print("no such cluster; start one with: python -m tests.cluster up", file=sys.stderr)
    return None


def _status(args: argparse.Namespace) -> int:
    found = running(args.nodes, args.name, args.state)
    if not found:
        print("no such cluster; start one with: python -m tests.cluster up", file=sys.stderr)
        return 3
    for cluster in found:
        ready = controlplane.api_of(cluster.layout).ok("/readyz")
        print(f"{cluster.name} ({cluster.spec.nodes}): {cluster.layout.server} {'ready' if ready else 'not ready'}")
        for name in cluster.components():
            pid = cluster.pid(name)
            print(f"  {name:<26} {'running, pid ' + str(pid) if pid else 'not running'}")
    return 0 if all(cluster.healthy() for cluster in found) else 1


def _kubeconfig(args: argparse.Namespace) -> int:
    cluster = _one(args)
    if cluster is None:
        return 3
    print(cluster.kubeconfig)
    return 0


def _build(args: argparse.Namespace) -> int:
    print(build.ensure_built(args.nodes, print))
    return 0


def _images(args: argparse.Namespace) -> int:
    from tests.cluster import images  # noqa: PLC0415 - only a real cluster has images

    cluster = _one(args)
    if cluster is None:
        return 3
    archives = [Path(image) for image in args.images if Path(image).is_file()]
    names = [image for image in args.images if not Path(image).is_file()]
    for archive in [*archives, *(images.build_listed(names).values() if names else ())]:
        images.load_image(cluster, archive)
    print("\n".join(images.list_images(cluster)))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    problems = doctor.problems(args.nodes)
    for problem in problems:
        print(f"missing: {problem.line}")
    if not problems:
        print(f"all is there for --nodes={args.nodes}")
    return 1 if any(problem.blocking for problem in problems) else 0
