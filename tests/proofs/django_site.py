"""A Django project with django-rq's pages, everyone an administrator; import it when Django is set up."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

urlpatterns = [path("admin/", admin.site.urls), path("rq/", include("django_rq.urls"))]


def signed_in(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Let every request be an administrator's, without tables of users and sessions."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.user = User(username="admin", is_active=True, is_staff=True, is_superuser=True)
        return answer(request)

    return middleware
