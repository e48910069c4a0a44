"""An embedding model as the index wants it: texts in, vectors out, called in the model worker."""

from __future__ import annotations

from collections.abc import Sequence

from codeforge_ls.llm.backend import LitellmBackend
from codeforge_ls.model.errors import Unavailable
from codeforge_ls.model.llm import EmbeddingRequest, Embeddings


class LitellmEmbedder:
    """An embedding model that litellm knows, as the index wants it. ``name`` tells vector spaces apart."""

    def __init__(self, backend: LitellmBackend, model: str, api_base: str | None, timeout: float) -> None:
        self._backend, self._model, self._base, self._timeout = backend, model, api_base, timeout
        self.name = f"{model} {api_base or ''}".strip()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of the texts, in order. Raises ``Unavailable``, which says why."""
        request = EmbeddingRequest(
            model=self._model, texts=tuple(texts), api_base=self._base, timeout=self._timeout
        )
        answer = await self._backend.embed(request)
        if answer.failure is not None:
            raise Unavailable(answer.failure.message, hint="`codeforge health` shows the service.")
        return answer
