"""Submits a prompt and prints the answer, with nats-py and nothing of ours.

Usage: nats_py.py URL MODEL PROMPT
"""

import asyncio
import json
import sys

import nats

# The longest silence between two chunks. A model that is not loaded yet is loaded first.
PATIENCE = 60


async def main(url: str, model: str, prompt: str) -> None:
    client = await nats.connect(url, connect_timeout=PATIENCE)
    # Listening before publishing: nothing can be missed.
    output = await client.subscribe("rbee.out.>")
    await client.flush()
    job = {"messages": [{"role": "user", "content": prompt}]}
    receipt = await client.jetstream().publish(f"rbee.submit.{model}", json.dumps(job).encode())
    # A job that was published without an id has the sequence of its receipt.
    subject = f"rbee.out.default.{receipt.seq}"
    while True:
        message = await output.next_msg(timeout=PATIENCE)
        if message.subject != subject:
            continue
        chunk = json.loads(message.data)
        if chunk["type"] == "tokens":
            print(chunk["text"], end="", flush=True)
        elif chunk["type"] == "done":
            print()
            break
        elif chunk["type"] == "error":
            sys.exit(f"the job failed: {chunk['error']['message']}")
    await client.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:]))
