from langchain_core.tools import tool

CURRENCIES = {"Oslo": "krone", "Rome": "euro", "Lima": "sol"}


@tool
def currency(place: str) -> str:
    """Find out what people pay with."""
    try:
        return CURRENCIES[place]
    except KeyError as error:
        raise LookupError(f"nobody pays in {place}") from error
