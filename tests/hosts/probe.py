# SPDX-License-Identifier: Apache-2.0
"""Wait until sshd answers on every address.

Run as a script in the lab's network: ``probe.py SECONDS ADDRESS...``.
Prints the addresses that did not answer in time.
"""

import asyncio
import sys


async def answers(address: str) -> bool:
    """Say whether an SSH banner comes within a second."""
    try:
        async with asyncio.timeout(1):
            reader, writer = await asyncio.open_connection(address, 22)
            banner = await reader.read(64)
            writer.close()
    except OSError:
        return False
    return banner.startswith(b"SSH-2.0")


async def wait(address: str, end: float) -> str:
    """Return the address if it has not answered by ``end``, else nothing."""
    while asyncio.get_running_loop().time() < end:
        if await answers(address):
            return ""
        await asyncio.sleep(0.05)
    return address


async def main(seconds: float, addresses: list[str]) -> None:
    """Probe all addresses at once."""
    end = asyncio.get_running_loop().time() + seconds
    silent = await asyncio.gather(*[wait(address, end) for address in addresses])
    print("\n".join(filter(None, silent)))


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
