"""What all tests share; timm imports torchvision, so what that misses comes first."""

from __future__ import annotations

import socket
from typing import Any, NoReturn

import pytest
from torchvision_operators import declare_missing_operators

declare_missing_operators()


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Cut the network, and note every attempt to use it."""
    attempts: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> NoReturn:
        attempts.append(args)
        raise OSError("the network is cut")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return attempts
