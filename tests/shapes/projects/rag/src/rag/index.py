"""The documents, embedded when somebody first asks for them."""

import math
from pathlib import Path

from langchain_core.documents import Document

FOLDER = Path(__file__).parent / "documents"

_index = None


class Index:
    def __init__(self, embeddings, documents):
        self.embeddings = embeddings
        self.documents = documents
        self.vectors = embeddings.embed_documents([d.page_content for d in documents])

    def search(self, query, k=1):
        asked = self.embeddings.embed_query(query)

        def near(vector):
            return sum(a * b for a, b in zip(asked, vector, strict=True)) / math.hypot(*vector)

        ranked = sorted(zip(self.vectors, self.documents, strict=True), key=lambda pair: -near(pair[0]))
        return [document for _, document in ranked[:k]]


def get_index():
    global _index
    if _index is None:
        # Slow to import, and not needed by those who only look at the graph.
        from langchain_openai import OpenAIEmbeddings

        embeddings = OpenAIEmbeddings(check_embedding_ctx_length=False, max_retries=0)
        documents = [Document(p.read_text(), metadata={"source": p.name}) for p in sorted(FOLDER.glob("*.txt"))]
        _index = Index(embeddings, documents)
    return _index
