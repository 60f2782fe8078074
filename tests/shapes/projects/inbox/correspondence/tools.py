from langchain_core.tools import tool

ADDRESSES = {"Oslo": "harbour@oslo.example", "Rome": "forum@rome.example", "Lima": "plaza@lima.example"}
SENT: list[tuple[str, str]] = []


@tool
def find_address(place: str) -> str:
    """Find the address of the office at a place."""
    address = ADDRESSES.get(place)
    assert address, f"no office in {place}"
    return address


@tool
def send_email(to: str, content: str) -> str:
    """Send an email."""
    SENT.append((to, content))
    return f"Sent to {to}: {content}"


TOOLS = {t.name: t for t in (find_address, send_email)}
ASKS = {"send_email"}
