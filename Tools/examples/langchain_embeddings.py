"""A model as LangChain's Embeddings: Embedder("model.llv") goes wherever an Embeddings is wanted."""
import llvconv
from langchain_core.embeddings import Embeddings


class Embedder(Embeddings):
    def __init__(self, path: str):
        self.model = llvconv.Model(path)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return self.model.encode_document(texts).tolist()

    def embed_query(self, text: str) -> list[float]:
        return self.model.encode_query(text).tolist()
