"""The example application of docs/own-app.md."""

from pathlib import Path

import aiohttp

REPOSITORY = Path(__file__).parents[3]


async def test_the_example_application_asks_for_its_key(aiohttp_client) -> None:
    names = {}
    exec((REPOSITORY / "examples" / "own_app.py").read_text(encoding="utf-8"), names)
    client = await aiohttp_client(names["make_app"]())
    assert (await client.get("/hello")).status == 401
    headers = {"Authorization": "Bearer your-secure-api-key-here"}
    answer: aiohttp.ClientResponse = await client.get("/hello", headers=headers)
    assert await answer.json() == {"hello": "world"}
    assert (await client.get("/public/hello")).status == 200
    assert (await client.get("/health")).status == 200
