"""Follows the ConfigMap in which kube-apiserver says whose certificate its front proxy shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from heavylift.errors import HeavyliftError
from heavylift.runtime.kube import EXPIRED, KubeApi, KubeStatusError
from heavylift.runtime.service import Service, StateLine
from heavylift_operator.core.reading import child
from heavylift_operator.metrics_api.identity import NOBODY, FrontProxy, read

NAME: Final = "extension-apiserver-authentication"
PATH: Final = "/api/v1/namespaces/kube-system/configmaps"
_QUERY: Final = {"fieldSelector": f"metadata.name={NAME}"}
_AGAIN_S: Final = 2.0
_OFF: Final = (
    f"the ConfigMap kube-system/{NAME} names no front proxy: start kube-apiserver with --requestheader-client-ca-file "
    "and the flags beside it (the aggregation layer)"
)


@dataclass(slots=True, kw_only=True)
class Trust:
    """Hands over each version of the ConfigMap."""

    api: KubeApi
    service: Service
    line: StateLine
    believe: Callable[[FrontProxy], None]

    async def run(self) -> None:
        """List and watch until told to stop; trouble leaves what was believed before."""
        while not self.service.stop.is_set():
            try:
                await self._follow()
            except KubeStatusError as error:
                if error.status != EXPIRED:
                    self.line.bad(_words(error))
                    await self.service.pause(_AGAIN_S)
            except HeavyliftError as error:
                self.line.bad(str(error))
                await self.service.pause(_AGAIN_S)

    async def _follow(self) -> None:
        listing = await self.api.list(PATH, query=_QUERY)
        self._take(listing.items[0] if listing.items else {})
        async for event in self.api.watch(PATH, query=_QUERY, resource_version=listing.resource_version):
            if event.get("type") in {"ADDED", "MODIFIED"}:
                self._take(event["object"])
            elif event.get("type") == "DELETED":
                self._take({})

    def _take(self, config_map: Mapping[str, Any]) -> None:
        if child(config_map, "metadata").get("name", NAME) != NAME:
            return
        proxy = read(config_map)
        if proxy == NOBODY:
            self.line.bad(_OFF)
            return
        try:
            self.believe(proxy)
        except ValueError as error:
            self.line.bad(f"the front proxy's authority in kube-system/{NAME} cannot be read: {error}")
        else:
            self.line.good("the front proxy's authority is known")


def _words(error: KubeStatusError) -> str:
    if error.status == HTTPStatus.FORBIDDEN:
        return (
            f"the ConfigMap kube-system/{NAME} may not be read: bind the Role "
            "extension-apiserver-authentication-reader in kube-system to the operator's service account"
        )
    return str(error)
