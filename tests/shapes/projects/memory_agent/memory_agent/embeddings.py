"""What memories are found by."""

from openai import AsyncOpenAI

client = AsyncOpenAI()


async def aembed_texts(texts: list[str]) -> list[list[float]]:
    """Embed texts."""
    response = await client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in response.data]
