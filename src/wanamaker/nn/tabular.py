"""Columns of a table as inputs of a net, with every statistic in a buffer: a checkpoint carries them.

Axis letters: B batch rows, F numeric columns, J categorical columns, M members, Q quantile steps, P pieces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

LOG = ("auto", "none")
_LIMIT = 8.0
"""Standardised values are cut here: one broken number must not decide a prediction."""


class FeatureEncoder(nn.Module):
    """Numeric columns standardised (optionally in pieces, too), categorical ones one-hot or embedded.

    - A missing number becomes the mean; a flag says so where training had missing values in that column. Where it had
      none, the flag's weights would be untrained, so there is none.
    - With ``log="auto"``, a column that is never negative, exceeds 1 and has its mean far above its median (a quarter
      of a standard deviation) is taken as log(1 + value): money and counts.
    - Pieces: the piecewise linear encoding of Gorishniy et al. (2022, arXiv 2203.05556, eq. 1), with quantiles as
      edges, beside the standardised value. Pieces between equal quantiles stay 0.
    - A category that training never had is read as the mean of those it had: nothing untrained is looked up.

    Members have embeddings of their own: a shared table would have learnt from the rows that a member must not see.
    One-hot columns go into the members' own first layers, which is the same thing.

    Args:
        numeric: F.
        categories: J numbers of categories, without the unknown one.
        members: M, of the embeddings.
        pieces: P per numeric column; 0 for none.
        log: of `LOG`.
        embed_above: a column with more categories than this is embedded.
        embedding: width of an embedding.

    Raises:
        ValueError: an argument out of range.
    """

    def __init__(
        self,
        numeric: int,
        categories: Sequence[int] = (),
        *,
        members: int = 1,
        pieces: int = 0,
        log: str = "auto",
        embed_above: int = 32,
        embedding: int = 8,
    ) -> None:
        super().__init__()
        if numeric + len(categories) == 0:
            raise ValueError("FeatureEncoder: there is no column to encode; name at least one feature.")
        if log not in LOG:
            raise ValueError(f"FeatureEncoder: log={log!r}; choose from {', '.join(LOG)}.")
        if min(numeric, pieces, embed_above) < 0 or embedding < 1 or members < 1 or any(c < 0 for c in categories):
            raise ValueError(
                f"FeatureEncoder(numeric={numeric}, pieces={pieces}, embed_above={embed_above}, "
                f"embedding={embedding}, members={members}): counts cannot be negative."
            )
        self.numeric, self.pieces, self.log, self.members = numeric, pieces, log, members
        self.categories = tuple(categories)
        self.embedded = tuple(j for j, count in enumerate(categories) if count > embed_above)
        self.one_hot = tuple(j for j, count in enumerate(categories) if 0 < count <= embed_above)
        self.tables = nn.ParameterList(
            nn.Parameter(torch.randn(members, categories[j], embedding) * embedding**-0.5) for j in self.embedded
        )
        self.register_buffer("mean", torch.zeros(numeric))
        self.register_buffer("sd", torch.ones(numeric))
        self.register_buffer("fill", torch.zeros(numeric))
        self.register_buffer("logged", torch.zeros(numeric, dtype=torch.bool))
        # Where `logged` is true. Found once: how many there are decides sizes, for which Python would wait for a GPU.
        self.register_buffer("_places", torch.zeros(0, dtype=torch.int64), persistent=False)
        self.register_load_state_dict_post_hook(_find_places)
        self.register_buffer("flagged", torch.zeros(numeric, dtype=torch.bool))
        self.register_buffer("edges", torch.zeros(numeric, pieces + 1 if pieces else 0))
        self.width = numeric * (2 + pieces) + sum(categories[j] for j in self.one_hot) + embedding * len(self.embedded)

    @torch.no_grad()
    def fit(
        self,
        mean: Sequence[float],
        sd: Sequence[float],
        missing: Sequence[float],
        quantiles: Sequence[Sequence[float]],
    ) -> None:
        """Take over what the training rows say.

        Args:
            mean, sd: F numbers, of the values that are there.
            missing: F shares of missing values.
            quantiles: [F][Q + 1] ascending, at 0, 1/Q, ..., 1.

        Raises:
            ValueError: not one entry per numeric column, or fewer quantiles than pieces.
        """
        if not len(mean) == len(sd) == len(missing) == len(quantiles) == self.numeric:
            raise ValueError(
                f"FeatureEncoder.fit: {self.numeric} numeric columns, but {len(mean)} means, {len(sd)} standard "
                f"deviations, {len(missing)} shares of missing values and {len(quantiles)} rows of quantiles."
            )
        if not self.numeric:
            return
        means, sds = torch.tensor(mean, dtype=torch.float64), torch.tensor(sd, dtype=torch.float64)
        steps = torch.tensor([list(row) for row in quantiles], dtype=torch.float64)  # [F, Q + 1]
        if self.pieces > steps.shape[1] - 1:
            raise ValueError(f"FeatureEncoder: pieces={self.pieces}, but there are {steps.shape[1]} quantiles.")
        self.fill.copy_(means)
        self.flagged.copy_(torch.tensor(missing) > 0)
        if self.log == "auto":
            median = steps[:, (steps.shape[1] - 1) // 2]
            skewed = (means - median) / sds > 0.25
            self.logged.copy_(skewed & (steps[:, 0] >= 0) & (steps[:, -1] > 1))
        _find_places(self)
        # Moments of log(1 + value) from the quantiles, by the trapezoid rule over equal shares of the rows.
        logs = steps.clamp(min=0).log1p()
        middle = (logs[:, 1:] + logs[:, :-1]) / 2
        log_mean, log_sd = middle.mean(1), middle.std(1, correction=0)
        self.mean.copy_(torch.where(self.logged, log_mean, means))
        self.sd.copy_(torch.where(self.logged, torch.where(log_sd > 0, log_sd, 1.0), sds))
        if self.pieces:
            picked = torch.linspace(0, steps.shape[1] - 1, self.pieces + 1).round().long()
            self.edges.copy_(steps[:, picked])

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Inputs of a net.

        Args:
            numeric: [B, F], units of the table; NaN where missing.
            categorical: int64 [B, J], 1..count; 0 for unknown.

        Returns:
            [B, width], or [M, B, width] where a column is embedded.
        """
        return self.embed(self.fixed(numeric, categorical), categorical)

    @torch.no_grad()
    def fixed(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """The columns that hold no parameter, [B, .]: alike in encoders with the same options and statistics."""
        parts = []
        if self.numeric:
            absent = numeric.isnan()
            filled = torch.where(absent, self.fill, numeric)
            scaled = filled.clone()
            if len(places := self._places):  # logarithms cost more than all else here
                scaled[:, places] = filled[:, places].clamp(min=0).log1p()
            parts += [((scaled - self.mean) / self.sd).clamp(-_LIMIT, _LIMIT), (absent & self.flagged).float()]
            if self.pieces:
                width = self.edges.diff()  # [F, P]
                inside = (filled[..., None] - self.edges[:, :-1]) / width.clamp(min=1e-30)
                parts.append((inside.clamp(0, 1) * (width > 0)).flatten(1))
        for j in self.one_hot:
            parts.append(self._rows_of(torch.eye(self.categories[j], device=categorical.device), categorical[:, j]))
        return torch.cat(parts, dim=1) if parts else torch.zeros(len(categorical), 0, device=categorical.device)

    def embed(self, x: Tensor, categorical: Tensor) -> Tensor:
        """What `fixed` returned, and the members' embeddings beside it."""
        if not self.embedded:
            return x
        looked_up = [
            torch.stack([self._rows_of(member, categorical[:, j]) for member in table])  # [M, B, embedding]
            for j, table in zip(self.embedded, self.tables, strict=True)
        ]
        return torch.cat([x.expand(self.members, -1, -1), *looked_up], dim=2)

    @staticmethod
    def _rows_of(table: Tensor, number: Tensor) -> Tensor:
        """Rows of a table [C, D] by number 1..C; their mean for 0."""
        return nn.functional.embedding(number, torch.cat([table.mean(0, keepdim=True), table]))


def _find_places(encoder: FeatureEncoder, *_: object) -> None:
    """Numbers of the columns that are logged; also after a checkpoint was loaded, which says of each whether it is."""
    encoder._places = encoder.logged.nonzero().flatten()
