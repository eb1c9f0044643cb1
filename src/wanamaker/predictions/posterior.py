"""`MixPosterior`: the draws of a Bayesian mix model, with everything needed to say whether they can be trusted.

Written beside the rows as ``posterior.nc``, an ArviZ `InferenceData` file in netCDF 4 (ArviZ schema,
https://python.arviz.org/en/stable/schema/schema.html), so that any tool of that ecosystem opens it.

Axis letters: G series, T periods, C channels, R replicates of the KPI.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from wanamaker.errors import UserError
from wanamaker.predictions.artefact import atomic_path

if TYPE_CHECKING:  # ArviZ costs seconds to import, and the menu of experiments does not need it
    import arviz
    import xarray

# ArviZ says at every import which of its successors are not there; nobody needs to know.
logging.getLogger("arviz.preview").setLevel(logging.WARNING)

ENGINES = ("svi", "hmc", "nuts")
ESTIMANDS = ("contribution", "roi", "mroi", "baseline_share")
_SCALARS: dict[str, type] = {
    "engine": str,
    "guide": str,
    "finished": bool,
    "khat": float,
    "kpi_sum": float,
    "seconds": float,
    "cpu_seconds": float,
}
_RESERVED = ("chain", "draw", "replicate", "time")
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class MixPosterior:
    """Draws from posterior and prior of a mix model, how they were made, and what they predict.

    Attributes:
        engine: of `ENGINES`. SVI's draws come from its guide.
        guide: "normal", "low_rank", "multivariate", or "" where there is none.
        finished: False where the fit was cut short (debug runs).
        khat: PSIS k-hat of the guide on the model's parameters; NaN where there is no guide.
        parameters: name to float64 [chain, draw, *own axes], natural scale. The estimands are among them:
            "contribution" [.., C] (total over observed training rows, KPI units), "roi" [.., C] (money per money, NaN
            where organic), "mroi" [.., C] (return of the last +1 %) and "baseline_share" (of the predicted KPI).
        prior: the same names to [draw, *own axes], draws from the prior.
        dims: name to the names of its own axes, such as ("channel",) or ().
        coords: axis name to labels; has at least "channel" and "series".
        stats: [chain, draw] each: "diverging" (bool), "acceptance_rate", "energy", "n_steps"; {} for SVI.
        log_likelihood: float64 [chain, draw, G], of each series' training rows, series effects integrated out.
        replicated: float32 [R, G, T], the KPI replicated from the posterior with noise, all periods, KPI units.
        replicated_draw: int64 [R], flat index chain * num_draws + draw of each replicate's parameters.
        prior_replicated: float32 [R0, G, T], replicated from the prior.
        observed: float64 [G, T], NaN where not observed.
        train: bool [G, T].
        dates: datetime64[D] [T], start of the periods.
        kpi_sum: sum of the KPI over observed training rows.
        seconds, cpu_seconds: of the fit, all sessions.

    Raises:
        ValueError: shapes disagree, an estimand is missing, or a label occurs twice.
    """

    engine: str
    guide: str
    finished: bool
    khat: float
    parameters: Mapping[str, np.ndarray]
    prior: Mapping[str, np.ndarray]
    dims: Mapping[str, tuple[str, ...]]
    coords: Mapping[str, tuple[str, ...]]
    stats: Mapping[str, np.ndarray]
    log_likelihood: np.ndarray
    replicated: np.ndarray
    replicated_draw: np.ndarray
    prior_replicated: np.ndarray
    observed: np.ndarray
    train: np.ndarray
    dates: np.ndarray
    kpi_sum: float
    seconds: float
    cpu_seconds: float

    file_name: ClassVar[str] = "posterior.nc"

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"MixPosterior.engine={self.engine!r}; choose from {', '.join(ENGINES)}.")
        if missing := [name for name in ("channel", "series") if name not in self.coords]:
            raise ValueError(f"MixPosterior.coords has no {' and no '.join(missing)}.")
        for axis, labels in self.coords.items():
            if axis in _RESERVED or axis in self.parameters:
                raise ValueError(f"MixPosterior.coords: an axis cannot be called {axis!r}, that name is taken.")
            if len(set(labels)) != len(labels):
                raise ValueError(f"MixPosterior.coords[{axis!r}] has a label twice.")
        if missing := [name for name in ESTIMANDS if name not in self.parameters]:
            raise ValueError(f"MixPosterior.parameters lacks {', '.join(missing)}.")
        if set(self.prior) != set(self.parameters) or set(self.dims) != set(self.parameters):
            odd = sorted((set(self.prior) ^ set(self.parameters)) | (set(self.dims) ^ set(self.parameters)))
            raise ValueError(f"MixPosterior: parameters, prior and dims differ in {', '.join(odd)}.")
        self._check_shapes()

    def _check_shapes(self) -> None:
        chains, draws = self.parameters["baseline_share"].shape[:2]
        prior_draws = len(self.prior["baseline_share"])
        G, T = len(self.coords["series"]), len(self.dates)
        expected: dict[str, tuple[Any, tuple[int, ...]]] = {}
        for name, values in self.parameters.items():
            if "/" in name:
                raise ValueError(f"MixPosterior.parameters: {name!r} has a '/', which netCDF names cannot have.")
            if unknown := [axis for axis in self.dims[name] if axis not in self.coords]:
                raise ValueError(f"MixPosterior.dims[{name!r}] names {unknown[0]!r}, which has no coords.")
            own = tuple(len(self.coords[axis]) for axis in self.dims[name])
            expected[f"parameters[{name!r}]"] = values, (chains, draws, *own)
            expected[f"prior[{name!r}]"] = self.prior[name], (prior_draws, *own)
        for name, values in self.stats.items():
            expected[f"stats[{name!r}]"] = values, (chains, draws)
        expected |= {
            "log_likelihood": (self.log_likelihood, (chains, draws, G)),
            "replicated": (self.replicated, (len(self.replicated), G, T)),
            "replicated_draw": (self.replicated_draw, (len(self.replicated),)),
            "prior_replicated": (self.prior_replicated, (len(self.prior_replicated), G, T)),
            "observed": (self.observed, (G, T)),
            "train": (self.train, (G, T)),
        }
        for name, (values, shape) in expected.items():
            if values.shape != shape:
                raise ValueError(f"MixPosterior.{name} has shape {values.shape}, expected {shape}.")
        at = self.replicated_draw
        if at.size and (at.min() < 0 or at.max() >= chains * draws):
            raise ValueError(f"MixPosterior.replicated_draw runs to {at.max()}, but there are {chains * draws} draws.")

    @property
    def series(self) -> tuple[str, ...]:
        """Names, [G]."""
        return tuple(self.coords["series"])

    @property
    def channels(self) -> tuple[str, ...]:
        """Names, [C]."""
        return tuple(self.coords["channel"])

    @property
    def num_chains(self) -> int:
        """Chains; 1 for SVI."""
        return self.parameters["baseline_share"].shape[0]

    @property
    def num_draws(self) -> int:
        """Draws per chain."""
        return self.parameters["baseline_share"].shape[1]

    def flat(self, name: str) -> np.ndarray:
        """Draws of one parameter with the chains after each other, float64 [chain * draw, *own axes]."""
        values = self.parameters[name]
        return values.reshape(-1, *values.shape[2:])

    def inference_data(self) -> arviz.InferenceData:
        """The same as ArviZ has it.

        Groups: posterior, prior, sample_stats (not for SVI), log_likelihood, posterior_predictive and prior_predictive
        (`kpi` with axes replicate, series, time), observed_data, constant_data; the scalars are attributes.
        """
        import arviz as az
        import xarray as xr

        labels = {axis: np.array(names, dtype=object) for axis, names in self.coords.items()}
        steps = {"chain": np.arange(self.num_chains), "draw": np.arange(self.num_draws)}
        panel = {"series": labels["series"], "time": self.dates.astype("datetime64[ns]")}

        def drawn(values: Mapping[str, np.ndarray], leading: tuple[str, ...], sizes: Mapping[str, Any]) -> xr.Dataset:
            used = {axis for name in values for axis in self.dims.get(name, ())}
            return xr.Dataset(
                {name: ((*leading, *self.dims.get(name, ())), array) for name, array in values.items()},
                {**sizes, **{axis: labels[axis] for axis in labels if axis in used}},
            )

        prior = {name: values[None] for name, values in self.prior.items()}
        prior_steps = {"chain": [0], "draw": np.arange(len(self.prior["baseline_share"]))}
        replicates = ("replicate", "series", "time")
        attributes = {name: kind(getattr(self, name)) for name, kind in _SCALARS.items()}
        attributes["finished"] = int(self.finished)  # netCDF has no boolean attributes
        attributes["wanamaker_schema_version"] = _SCHEMA_VERSION
        groups = {
            "posterior": drawn(self.parameters, ("chain", "draw"), steps),
            "prior": drawn(prior, ("chain", "draw"), prior_steps),
            "log_likelihood": xr.Dataset(
                {"kpi": (("chain", "draw", "series"), self.log_likelihood)}, {**steps, "series": labels["series"]}
            ),
            "posterior_predictive": xr.Dataset(
                {"kpi": (replicates, self.replicated)}, {"replicate": np.arange(len(self.replicated)), **panel}
            ),
            "prior_predictive": xr.Dataset(
                {"kpi": (replicates, self.prior_replicated)},
                {"replicate": np.arange(len(self.prior_replicated)), **panel},
            ),
            "observed_data": xr.Dataset({"kpi": (("series", "time"), self.observed)}, panel),
            "constant_data": xr.Dataset(
                {"train": (("series", "time"), self.train), "replicated_draw": ("replicate", self.replicated_draw)},
                {**panel, **labels},
            ),
        }
        if self.stats:
            groups["sample_stats"] = drawn(self.stats, ("chain", "draw"), steps)
        return az.InferenceData(attrs=attributes, **groups)

    def write(self, folder: Path | str) -> Path:
        """Write ``<folder>/posterior.nc``, compressed, atomically."""
        path = Path(folder) / self.file_name
        data = self.inference_data()
        with atomic_path(path) as temporary:
            data.to_netcdf(str(temporary), engine="h5netcdf", compress=True)
        return path

    @classmethod
    def read(cls, path: Path | str) -> MixPosterior:
        """Read what `write` wrote, from the file or its folder.

        Raises:
            UserError: not there, damaged, or not a posterior of this project.
        """
        import arviz as az

        path = Path(path)
        path = path / cls.file_name if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"No posterior at {path}. Run evaluate.py again to rewrite it, or check the path.")
        try:
            data = az.from_netcdf(str(path), engine="h5netcdf")
            version = int(data.attrs["wanamaker_schema_version"])
            if version > _SCHEMA_VERSION:
                raise UserError(
                    f"{path} has schema version {version}; this Wanamaker reads up to {_SCHEMA_VERSION}. Upgrade it."
                )
            return cls._from_inference_data(data)
        except (OSError, KeyError, AttributeError, ValueError) as error:
            raise UserError(f"Cannot read {path} ({error}). Run evaluate.py again to rewrite it.") from error

    @classmethod
    def _from_inference_data(cls, data: arviz.InferenceData) -> MixPosterior:
        constant = data.constant_data

        def arrays(group: xarray.Dataset) -> dict[str, np.ndarray]:
            return {str(name): group[name].values for name in group.data_vars}

        coords = {
            str(axis): tuple(str(label) for label in values.values)
            for axis, values in constant.coords.items()
            if axis not in _RESERVED
        }
        return cls(
            **{name: kind(data.attrs[name]) for name, kind in _SCALARS.items()},
            parameters=arrays(data.posterior),
            prior={name: values[0] for name, values in arrays(data.prior).items()},
            dims={str(name): tuple(map(str, data.posterior[name].dims[2:])) for name in data.posterior.data_vars},
            coords=coords,
            stats=arrays(data.sample_stats) if "sample_stats" in data.groups() else {},
            log_likelihood=data.log_likelihood["kpi"].values,
            replicated=data.posterior_predictive["kpi"].values,
            replicated_draw=constant["replicated_draw"].values,
            prior_replicated=data.prior_predictive["kpi"].values,
            observed=data.observed_data["kpi"].values,
            train=constant["train"].values.astype(bool),
            dates=constant["time"].values.astype("datetime64[D]"),
        )
