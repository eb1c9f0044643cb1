"""`MixPredictions`: what a marketing-mix model says about each row of a panel, and the response curves behind it.

Written alike by the neural and by the Bayesian mix; S draws are posterior draws or ensemble members, and a model with
one answer is the case S = 1.

Axis letters: N rows, S draws, K parts, G series, C media channels, D drivers (prices and promotions), L adstock taps,
J knots of a curve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.predictions.artefact import prediction_kind, read_arrays, read_kind, write_arrays, write_table
from wanamaker.predictions.posterior import MixPosterior

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SPLITS = ("train", "val", "test", "none")
PART_KINDS = ("baseline", "trend", "season", "control", "promotion", "price", "media")
LINKS = ("identity", "log")
TRANSFORMS = ("log_ratio", "scaled", "difference")


@dataclass(frozen=True)
class MixResponse:
    """The curves of a mix model: enough to answer any "what if" about media, prices and promotions.

    For draw s, series g and period t the linear predictor is the sum of parts

        eta = baseline + sum_c media_part_c + sum_d driver_part_d + other parts,   E[kpi] = eta or exp(eta) by `link`,

        media_part_c  = amplitude[s,g,c] * f_c(sum_l adstock[s,c,l] * x[t-l])      where adstock_first[c], else
        media_part_c  = amplitude[s,g,c] * sum_l adstock[s,c,l] * f_c(x[t-l]),     x = media * q / media_scale[g,c],
        driver_part_d = driver_amplitude[s,g,d] * h_d(z),  z = log(value / reference[g,d])      (transform log_ratio)
                                                          z = value / reference[g,d]            (scaled)
                                                          z = value - reference[g,d]            (difference).

    where q is 1, or for channels with `usual_frequency` what a contact counts at the frequency it comes with
    (`contact_value`). Curves are cubic Hermite pieces through `curve` with derivatives `slope` at the knots, continued
    linearly beyond the last knot (and below the first, for drivers). f_c(0) = 0 and f_c never falls.

    Attributes:
        series, channels, drivers: names, [G], [C], [D].
        link: "identity" or "log".
        kpi, kpi_unit, money_unit, price_unit: words for tables and figures; `price_unit` is of prices.
        kpi_value: money per unit of the KPI.
        periods_per_year: of the calendar.
        period: pandas offset of the calendar.
        paid: bool [C], False for organic channels.
        national: bool [C], True where all series see one national amount, which a plan can only move as a whole.
        adstock: float64 [S, C, L], newest first.
        adstock_first: bool [C].
        media_scale: float64 [G, C], above 0, media units.
        cost_per_media: float64 [G, C], money per media unit (1 where media are money, 0 where organic).
        grid: float64 [C, J], ascending from 0, in scaled media.
        curve, slope: float64 [S, C, J].
        amplitude: float64 [S, G, C], units of the linear predictor.
        media_max: float64 [G, C], largest media per period seen in training, media units.
        driver_kind: "price" or "promotion", [D].
        driver_transform: of `TRANSFORMS`, [D].
        driver_reference: float64 [G, D].
        driver_grid: float64 [D, J2], ascending, contains 0.
        driver_curve, driver_slope: float64 [S, D, J2].
        driver_amplitude: float64 [S, G, D].
        driver_min, driver_max: float64 [G, D], range seen in training, units of the file.
        own_price: int64 [G], number of the driver that is the series' own price; -1 where there is none.
        noise_sd: float64 [S, G], standard deviation of the KPI around its mean, KPI units (for log link: at the
            series' mean level).
        usual_frequency: float64 [C], contacts per person at which q is 1; 0 for channels whose contacts all count
            alike; None where all do.
        frequency_half, frequency_slope: float64 [S, C], of q; 1 where contacts count alike; None with the former.
    """

    series: tuple[str, ...]
    channels: tuple[str, ...]
    drivers: tuple[str, ...]
    link: str
    kpi: str
    kpi_unit: str
    money_unit: str
    price_unit: str
    kpi_value: float
    period: str
    periods_per_year: float
    paid: np.ndarray
    national: np.ndarray
    adstock: np.ndarray
    adstock_first: np.ndarray
    media_scale: np.ndarray
    cost_per_media: np.ndarray
    grid: np.ndarray
    curve: np.ndarray
    slope: np.ndarray
    amplitude: np.ndarray
    media_max: np.ndarray
    driver_kind: tuple[str, ...]
    driver_transform: tuple[str, ...]
    driver_reference: np.ndarray
    driver_grid: np.ndarray
    driver_curve: np.ndarray
    driver_slope: np.ndarray
    driver_amplitude: np.ndarray
    driver_min: np.ndarray
    driver_max: np.ndarray
    own_price: np.ndarray
    noise_sd: np.ndarray
    usual_frequency: np.ndarray | None = None
    frequency_half: np.ndarray | None = None
    frequency_slope: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise ValueError(f"MixResponse.link={self.link!r}; choose from {', '.join(LINKS)}.")
        S, G, C = self.amplitude.shape
        D, J = len(self.drivers), self.grid.shape[-1]
        J2 = self.driver_grid.shape[-1]
        shapes = {
            "adstock": (S, C, self.adstock.shape[-1]),
            "adstock_first": (C,),
            "paid": (C,),
            "national": (C,),
            "media_scale": (G, C),
            "cost_per_media": (G, C),
            "media_max": (G, C),
            "grid": (C, J),
            "curve": (S, C, J),
            "slope": (S, C, J),
            "driver_reference": (G, D),
            "driver_min": (G, D),
            "driver_max": (G, D),
            "driver_grid": (D, J2),
            "driver_curve": (S, D, J2),
            "driver_slope": (S, D, J2),
            "driver_amplitude": (S, G, D),
            "own_price": (G,),
            "noise_sd": (S, G),
        }
        if self.usual_frequency is not None:
            shapes |= {"usual_frequency": (C,), "frequency_half": (S, C), "frequency_slope": (S, C)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"MixResponse.{name} has shape {getattr(self, name).shape}, expected {shape}.")
        if (len(self.series), len(self.channels), len(self.driver_kind)) != (G, C, D):
            raise ValueError("MixResponse: names and arrays disagree in number.")
        if unknown := set(self.driver_transform) - set(TRANSFORMS):
            raise ValueError(f"MixResponse.driver_transform {sorted(unknown)}; choose from {', '.join(TRANSFORMS)}.")

    @property
    def num_draws(self) -> int:
        """S."""
        return self.amplitude.shape[0]

    @property
    def frequency_channels(self) -> list[int]:
        """Numbers of the channels whose contacts count by their frequency."""
        return [] if self.usual_frequency is None else np.flatnonzero(self.usual_frequency > 0).tolist()

    def contact_value(self, channel: int, frequency: np.ndarray) -> np.ndarray:
        """q: what a contact counts at a frequency, in units of what it counts at the usual one.

        A person reached f times responds in proportion to f^s / (f^s + h^s), and a contact has the f-th part of it
        (Meridian's reach x Hill(frequency)).

        Args:
            channel: of `frequency_channels`.
            frequency: [...], contacts per person, above 0.

        Returns:
            [S, ...].
        """
        tail = (1,) * np.ndim(frequency)
        half, slope = (x[:, channel].reshape(-1, *tail) for x in (self.frequency_half, self.frequency_slope))

        def log_worth(f: np.ndarray) -> np.ndarray:
            return (slope - 1) * np.log(f) - np.logaddexp(slope * np.log(f), slope * np.log(half))

        return np.exp(log_worth(np.asarray(frequency)[None]) - log_worth(self.usual_frequency[channel]))


_OPTIONAL = ("usual_frequency", "frequency_half", "frequency_slope")
_TEXT = {f.name for f in fields(MixResponse) if f.type in ("str", "float", "tuple[str, ...]")}


@prediction_kind
@dataclass(frozen=True)
class MixPredictions:
    """Parts of the linear predictor for rows of a panel, with what was observed, and the curves.

    Attributes:
        row: int64 [N], series * T + time; ascending, each once.
        series: int64 [N], number of the series.
        date: datetime64[D] [N], start of the period.
        split: int64 [N], index into `SPLITS`.
        kpi: float64 [N], observed, NaN where it was not; KPI units.
        media: float64 [N, C], media units per period.
        spend: float64 [N, C], money per period.
        driver: float64 [N, D], prices and promotions, units of the file.
        parts: float32 [S, N, K], parts of the linear predictor: KPI units (identity link) or log units (log link).
        part_names: K names; a part of kind media has its channel's name, of kind price or promotion its driver's.
        part_kinds: K entries of `PART_KINDS`.
        response: the curves.
        lead_in: float64 [G, L - 1, C], media before the first period of the panel, oldest first.
        posterior: draws and diagnostics of a Bayesian model; None where the model is of another kind.
        frequency: float64 [N, C], contacts per person, 1 where there is no contact or no such number; None where no
            channel is given as reach and frequency.
        lead_in_frequency: float64 [G, L - 1, C] or None, that of the lead-in.
    """

    row: np.ndarray
    series: np.ndarray
    date: np.ndarray
    split: np.ndarray
    kpi: np.ndarray
    media: np.ndarray
    spend: np.ndarray
    driver: np.ndarray
    parts: np.ndarray
    part_names: tuple[str, ...]
    part_kinds: tuple[str, ...]
    response: MixResponse
    lead_in: np.ndarray
    posterior: MixPosterior | None = None
    frequency: np.ndarray | None = None
    lead_in_frequency: np.ndarray | None = None

    kind: ClassVar[str] = "mix"
    schema_version: ClassVar[int] = 1
    file_name: ClassVar[str] = "mix.parquet"

    def __post_init__(self) -> None:
        S, N, K = self.parts.shape
        for name in ("row", "series", "date", "split", "kpi"):
            if getattr(self, name).shape != (N,):
                raise ValueError(f"MixPredictions.{name} has shape {getattr(self, name).shape}, expected ({N},).")
        if (len(self.part_names), len(self.part_kinds), self.response.num_draws) != (K, K, S):
            raise ValueError("MixPredictions: parts, their names and the draws of the response disagree in number.")
        if unknown := set(self.part_kinds) - set(PART_KINDS):
            raise ValueError(f"MixPredictions.part_kinds {sorted(unknown)}; choose from {', '.join(PART_KINDS)}.")
        if N > 1 and not (np.diff(self.row) > 0).all():
            raise ValueError("MixPredictions.row must ascend, each row once; join parts with concat.")
        if not np.isfinite(self.parts).all():
            raise ValueError(
                "MixPredictions.parts are not all finite. The weights have probably diverged: look at the training "
                "loss, lower the learning rate."
            )

    def __len__(self) -> int:
        return len(self.row)

    def to(self, *_device: Any, **_options: Any) -> MixPredictions:
        """Itself, because arrays live on the CPU: Lightning moves what `predict_step` returns, and looks for this."""
        return self

    @property
    def _per_row(self) -> tuple[str, ...]:
        names = ("row", "series", "date", "split", "kpi", "media", "spend", "driver")
        return names if self.frequency is None else (*names, "frequency")

    @property
    def draws(self) -> np.ndarray:
        """Mean of the KPI per draw, float64 [S, N], KPI units."""
        eta = self.parts.sum(axis=-1, dtype=np.float64)
        return np.exp(eta) if self.response.link == "log" else eta

    @classmethod
    def concat(cls, parts: Iterable[MixPredictions]) -> MixPredictions:
        """Join parts (batches, ranks); a row that several parts have is taken from the first.

        Raises:
            ValueError: no part, or parts of different models.
        """
        parts = list(parts)
        if not parts:
            raise ValueError("Nothing to join: concat needs at least one part (did the loader yield no batch?).")
        first = parts[0]
        for other in parts[1:]:
            if other.part_names != first.part_names or other.response.series != first.response.series:
                raise ValueError("Parts of different models cannot be joined.")
        _, keep = np.unique(np.concatenate([p.row for p in parts]), return_index=True)
        per_row = {name: np.concatenate([getattr(p, name) for p in parts])[keep] for name in first._per_row}
        return cls(
            **per_row,
            parts=np.concatenate([p.parts for p in parts], axis=1)[:, keep],
            part_names=first.part_names,
            part_kinds=first.part_kinds,
            response=first.response,
            lead_in=first.lead_in,
            lead_in_frequency=first.lead_in_frequency,
            posterior=next((part.posterior for part in parts if part.posterior is not None), None),
        )

    def select(self, keep: np.ndarray) -> MixPredictions:
        """The rows at ``keep`` (mask or ascending indices), with the same curves."""
        per_row = {name: getattr(self, name)[keep] for name in self._per_row}
        return MixPredictions(
            **per_row,
            parts=self.parts[:, keep],
            part_names=self.part_names,
            part_kinds=self.part_kinds,
            response=self.response,
            lead_in=self.lead_in,
            lead_in_frequency=self.lead_in_frequency,
            posterior=self.posterior,
        )

    def to_frame(self) -> pd.DataFrame:
        """One row per period and series: names, split, KPI, mean prediction, and the mean of every part."""
        import pandas as pd

        mean = self.parts.mean(axis=0, dtype=np.float64)
        return pd.DataFrame(
            {
                "series": np.array(self.response.series, dtype=object)[self.series],
                "date": self.date.astype("datetime64[s]"),
                "split": np.array(SPLITS, dtype=object)[self.split],
                "kpi": self.kpi,
                "prediction": self.draws.mean(axis=0),
                **{f"part: {name}": mean[:, k] for k, name in enumerate(self.part_names)},
            }
        )

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/mix.parquet`` (rows), ``mix.npz`` (curves) and ``posterior.nc`` where there is one.

        Each is written atomically, the rows last: a reader that finds them finds what belongs to them.
        """
        import pyarrow as pa

        path = Path(folder) / self.file_name
        S, _N, K = self.parts.shape
        arrays = {name: getattr(self.response, name) for name in _array_names()}
        arrays |= {"lead_in": self.lead_in, "lead_in_frequency": self.lead_in_frequency}
        write_arrays({k: value for k, value in arrays.items() if value is not None}, path.with_suffix(".npz"))
        flat = np.ascontiguousarray(self.parts.transpose(1, 0, 2)).reshape(-1)
        columns: dict[str, Any] = {
            "row": self.row,
            "series": self.series,
            "date": pa.array(self.date.astype("datetime64[D]")),
            "split": self.split,
            "kpi": self.kpi,
            "parts": pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), S * K),
        }
        for name in ("media", "spend", "driver", *(["frequency"] if self.frequency is not None else [])):
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape[1]:  # a list of width 0 cannot be written
                columns[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        header = {name: getattr(self.response, name) for name in sorted(_TEXT)}
        header |= {"part_names": list(self.part_names), "part_kinds": list(self.part_kinds)}
        header["posterior"] = self.posterior is not None
        if self.posterior is not None:
            self.posterior.write(folder)
        return write_table(pa.table(columns), path, kind=self.kind, schema_version=self.schema_version, header=header)

    @classmethod
    def read(cls, path: Path | str) -> MixPredictions:
        """Read what `write` wrote, from the Parquet file or its folder.

        Raises:
            UserError: not there, damaged, or predictions of another kind.
        """
        return read_kind(cls, path, "a mix model")

    @classmethod
    def from_table(cls, table: pa.Table, header: Mapping[str, Any], path: Path) -> MixPredictions:
        """Rebuild from the rows, the header and the curves beside; `read_predictions` calls this."""
        arrays = read_arrays(Path(path).with_suffix(".npz"))
        text = {name: tuple(v) if isinstance(v, list) else v for name, v in header.items() if name in _TEXT}
        held = {name: arrays.get(name) if name in _OPTIONAL else arrays[name] for name in _array_names()}
        response = MixResponse(**text, **held)
        N, K = table.num_rows, len(header["part_names"])

        def block(name: str, width: int) -> np.ndarray:
            if width == 0:
                return np.zeros((N, 0))
            return table[name].combine_chunks().flatten().to_numpy().reshape(N, -1)

        parts = block("parts", response.num_draws * K).reshape(N, response.num_draws, K)
        return cls(
            row=table["row"].to_numpy(),
            series=table["series"].to_numpy(),
            date=table["date"].to_numpy().astype("datetime64[D]"),
            split=table["split"].to_numpy(),
            kpi=table["kpi"].to_numpy(),
            media=block("media", len(response.channels)),
            spend=block("spend", len(response.channels)),
            driver=block("driver", len(response.drivers)),
            parts=np.ascontiguousarray(parts.transpose(1, 0, 2)),
            part_names=tuple(header["part_names"]),
            part_kinds=tuple(header["part_kinds"]),
            response=response,
            lead_in=arrays["lead_in"],
            lead_in_frequency=arrays.get("lead_in_frequency"),
            frequency=block("frequency", len(response.channels)) if "frequency" in table.column_names else None,
            # Files of before there were posteriors do not mention one.
            posterior=MixPosterior.read(Path(path).parent) if header.get("posterior") else None,
        )


def _array_names() -> list[str]:
    return [f.name for f in fields(MixResponse) if f.name not in _TEXT]
