"""A model as LlamaIndex's BaseEmbedding: Settings.embed_model = Embedder("model.llv")."""
import llvconv
from llama_index.core.base.embeddings.base import BaseEmbedding
from pydantic import PrivateAttr


class Embedder(BaseEmbedding):
    _model: llvconv.Model = PrivateAttr()

    def __init__(self, path: str, **options):
        super().__init__(model_name=path, **options)
        self._model = llvconv.Model(path)

    def _get_query_embedding(self, query):
        return self._model.encode_query(query).tolist()

    def _get_text_embedding(self, text):
        return self._model.encode_document(text).tolist()

    def _get_text_embeddings(self, texts):
        return self._model.encode_document(texts).tolist()

    async def _aget_query_embedding(self, query):
        return self._get_query_embedding(query)
