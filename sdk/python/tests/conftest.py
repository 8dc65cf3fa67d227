"""What tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from stint import AsyncClient, Client
from tests.cluster import Cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One server and one agent, for tests that break nothing."""
    with Cluster(1) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[Client]:
    """A client of that cluster."""
    with Client(cluster.address_list, timeout=60) as client:
        yield client


@pytest_asyncio.fixture
async def async_client(cluster: Cluster) -> AsyncIterator[AsyncClient]:
    """The same for asyncio."""
    async with AsyncClient(cluster.address_list, timeout=60) as client:
        yield client
