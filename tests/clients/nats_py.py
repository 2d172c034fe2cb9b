"""Sends a chat to a model and prints the answer, with nats-py alone and no code of rbee.

Usage: nats_py.py publish|request|store URL MODEL PROMPT

publish  publishes the job and subscribes to its output, as `nats pub` and `nats sub` do
request  sends a request to the service and reads its replies, as `nats req rbee.api.infer` does
store    stores a large body as an object and publishes a job that names it, as `nats object put` and `nats pub` do
"""

import asyncio
import json
import sys

import nats

# Time limit for the next chunk, in seconds. A model that is not loaded yet is loaded first.
PATIENCE = 60


def job(prompt: str, **more) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return json.dumps({"messages": messages, "max_tokens": 16, "temperature": 0, **more}).encode()


async def publish(client, model: str, prompt: str):
    """Yields the chunks of a job that is published without an id: its id is the sequence of the acknowledgement."""
    # Subscribe before publishing, so that no chunk is missed.
    output = await client.subscribe("rbee.out.>")
    await client.flush()
    receipt = await client.jetstream().publish(f"rbee.submit.{model}", job(prompt))
    while True:
        message = await output.next_msg(timeout=PATIENCE)
        if message.subject == f"rbee.out.default.{receipt.seq}":
            yield json.loads(message.data)


async def store(client, model: str, prompt: str):
    """Yields the chunks of a job whose body is stored in the bucket `rbee_bodies`, and repeats the prompt a million times."""
    bodies = await client.jetstream().object_store("rbee_bodies")
    await bodies.put("default/my-body", job(prompt * 1_000_000))
    output = await client.subscribe("rbee.out.default.my-job")
    await client.flush()
    headers = {"Nats-Msg-Id": "default.my-job", "Rbee-Body": "default/my-body"}
    await client.jetstream().publish(f"rbee.job.{model}.batch.default", b"", headers=headers)
    while True:
        yield json.loads((await output.next_msg(timeout=PATIENCE)).data)


async def request(client, model: str, prompt: str):
    """Yields the replies of the service. An empty reply is the last one."""
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish("rbee.api.infer", job(prompt, model=model), reply=inbox)
    while data := (await replies.next_msg(timeout=PATIENCE)).data:
        yield json.loads(data)


async def main(way: str, url: str, model: str, prompt: str) -> None:
    client = await nats.connect(url, connect_timeout=PATIENCE)
    chunks = {"publish": publish, "request": request, "store": store}[way](client, model, prompt)
    async for chunk in chunks:
        if chunk["type"] == "tokens":
            print(chunk["text"], end="", flush=True)
        elif chunk["type"] == "done":
            print(f"\n{chunk['usage']['completion_tokens']} tokens")
            break
        elif chunk["type"] == "error":
            sys.exit(f"the job failed: {chunk['error']['message']}")
    await client.close()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
