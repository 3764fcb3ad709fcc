"""What django-rq's pages show, printed as JSON: ``python -m tests.proofs.django_pages URL QUEUE...``.

A program of its own, as a process has one set of Django's settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import django
from django.conf import settings
from django.test import Client
from django.test.utils import setup_test_environment

TABLES = {"queued": "", **{name: f"{name}/" for name in ("started", "finished", "failed", "deferred", "scheduled")}}
"""A queue's pages that list jobs."""


def configure(url: str, queues: Sequence[str]) -> None:
    """Set Django up with django-rq for these queues: the admin's templates, no database."""
    apps = [f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "messages", "staticfiles")]
    context = ["django.template.context_processors.request", "django.contrib.auth.context_processors.auth"]
    templates = "django.template.backends.django.DjangoTemplates"
    settings.configure(
        INSTALLED_APPS=[*apps, "django_rq"],
        MIDDLEWARE=["tests.proofs.django_site.signed_in"],
        ROOT_URLCONF="tests.proofs.django_site",
        RQ_QUEUES={name: {"URL": url, "SERIALIZER": "rq.serializers.JSONSerializer"} for name in queues},
        STATIC_URL="/static/",
        TEMPLATES=[{"BACKEND": templates, "APP_DIRS": True, "OPTIONS": {"context_processors": context}}],
    )
    django.setup()
    setup_test_environment()  # replies keep what their templates were given


def figures(entry: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of jobs of a queue's entry, by state."""
    return {"queued": entry["jobs"], **{name: entry[f"{name}_jobs"] for name in TABLES if name != "queued"}}


def listed(client: Client, queue: int, table: str) -> list[str]:
    """Return the ids a table of a queue lists.

    Raises:
        RuntimeError: its page does not name one of them.
    """
    page = client.get(f"/rq/queues/{queue}/{table}")
    jobs = [job.id for job in page.context["jobs"]]
    if not all(job in page.content.decode() for job in jobs):
        raise RuntimeError(f"{page.request['PATH_INFO']} does not name {jobs}")
    return jobs


def show(client: Client) -> dict[str, Any]:
    """Return the figures of each queue (JSON, then the page, which cleans up as it looks), its tables, and its jobs.

    A job comes with the status and the description that its own page has.
    """
    found = {"figures": client.get("/rq/stats.json").json()["queues"], "page": client.get("/rq/").context["queues"]}
    shown = {where: {entry["name"]: figures(entry) for entry in entries} for where, entries in found.items()}
    tables, jobs = {}, {}
    for entry in found["figures"]:
        tables[entry["name"]] = {name: listed(client, entry["index"], table) for name, table in TABLES.items()}
        for job in (job for ids in tables[entry["name"]].values() for job in ids):
            page = client.get(f"/rq/queues/{entry['index']}/{job}/").context["job"]
            jobs[job] = (page.get_status(), page.description)
    return {**shown, "tables": tables, "jobs": jobs}


if __name__ == "__main__":
    configure(sys.argv[1], sys.argv[2:])
    print(json.dumps(show(Client())))  # noqa: T201
