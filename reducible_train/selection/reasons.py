"""Why a kernel is left as it is, in words that a report can show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from reducible_train import _keras
from reducible_train.layers import Kernel
from reducible_train.layers.uses import Uses
from reducible_train.selection.factorizations import Factorization
from reducible_train.settings.measures import Flops, Parameters, measure_kinds
from reducible_train.settings.rules import LayerRule

FROZEN = (
    "frozen when the training began, so it could not recover from a cut; a rule with "
    "keep_dense=False, or with a rank or an energy of its own, takes it in"
)


@dataclass(frozen=True, eq=False)
class Reasons:
    """What speaks against a change of a model's kernels, whatever their forms.

    Args:
        in_use: Why a kernel cannot be taken away from its layer, by path.
        outputs: Why what a layer puts out is the model's own, by id of the layer.
        beside: Paths of the kernels that something reads beside the calls of their layers.
        trained: Ids of the variables that a step trains; `None` where training does not go on,
            so that nothing need recover.
    """

    in_use: Mapping[str, str]
    outputs: Mapping[int, str]
    beside: frozenset[str]
    trained: frozenset[int] | None

    @classmethod
    def in_model(
        cls,
        model: Any,
        kernels: Sequence[Kernel],
        outputs: Mapping[int, str],
        beside: frozenset[str],
        taken: Set[int],
        *,
        trains: bool,
    ) -> Reasons:
        """Those of a model, whose outputs are known.

        Args:
            model: The model.
            kernels: Its kernels.
            outputs: Why what a layer puts out is the model's own, by id of the layer.
            beside: Paths of the kernels that something reads beside the calls of their layers.
            taken: Ids of the variables whose places in lists of their layers something goes by.
            trains: True if training goes on after a cut.
        """
        trained = frozenset(map(id, filter(_keras.is_trained, model.trainable_variables)))
        return cls(_in_use(model, kernels, taken), outputs, beside, trained if trains else None)

    @property
    def but_outputs(self) -> Reasons:
        """The same, for kernels that may change though they make outputs."""
        return replace(self, outputs={})

    def against(
        self, kernel: Kernel, rule: LayerRule | None, forms: Sequence[Factorization]
    ) -> str | None:
        """The first reason to leave a kernel as it is; `None` if it may change.

        Args:
            kernel: The kernel.
            rule: The rule for its layer, if any.
            forms: The ways to split it.
        """
        output = self.outputs.get(id(kernel.layer)) if kernel.gives_output else None
        is_beside = kernel.path in self.beside
        reason = self.in_use.get(kernel.path) or _reason(kernel, rule, forms, output, is_beside)
        return reason or (FROZEN if self._is_frozen(kernel) and not _asks(rule) else None)

    def _is_frozen(self, kernel: Kernel) -> bool:
        """True if training would go on, and not reach the kernel."""
        trained = self.trained
        return trained is not None and not any(id(v) in trained for v in kernel.variables)


def _in_use(model: Any, kernels: Sequence[Kernel], taken: Set[int]) -> dict[str, str]:
    """Path -> the reason for kernels that more than their own layer uses.

    A second holder would keep the old variable; who assigns values would find none, and who goes
    by a place in a list another one there.
    """
    places = set(taken)
    _keras.read_places(model, places.add)
    owners: dict[int, list[Kernel]] = {}
    for kernel in kernels:
        for variable in kernel.variables if kernel.rank is None else ():
            owners.setdefault(id(variable), []).append(kernel)
    found = {
        kernel.path: "the model's own code assigns values to it in a training step"
        for variable in owners.keys() & _keras.assigned_in_calls(model, places.add)
        for kernel in owners[variable]
    }
    for variable in owners.keys() & places:
        for kernel in owners[variable]:
            found[kernel.path] = (
                "own code of the model or of its loss takes from a list of variables by place, as "
                "`weights[0]` does, and a cut would change the places; it may ask for "
                f"`layer.{kernel.name}`"
            )
    for path, layer in [(model.name, model), *_keras.walk(model)]:
        for variable in _keras.held_variables(layer):
            for kernel in owners.get(id(variable), ()):
                if kernel.layer is not layer:
                    found[kernel.path] = (
                        f"'{path}' ({type(layer).__name__}) uses this very variable"
                    )
    for holder, variable in _keras.used_beside_layers(model) if owners else ():
        for kernel in owners.get(id(variable), ()):
            found.setdefault(kernel.path, f"{holder} uses this very variable")
    return found


def _reason(
    kernel: Kernel,
    rule: LayerRule | None,
    forms: Sequence[Factorization],
    output: str | None,
    is_beside: bool,
) -> str | None:
    """Why a kernel is left as it is."""
    if kernel.refusal is not None:
        return kernel.refusal
    if rule is not None and rule.keep_dense:
        return f"kept as it is by the rule for {rule.match!r}"
    if kernel.rank is not None:
        shares = rule is None or rule.target is None
        is_free = any(form.costs_nothing(kernel.rank) for form in forms)
        return _workless(forms, is_beside) if shares and is_free else None
    if output is not None and (rule is None or rule.keep_dense is None):
        return f"{output}; a rule with keep_dense=False takes it in"
    if rule is not None and rule.split is not None and rule.split not in kernel.splits:
        return f"cannot be split as {rule.split!r} (by the rule for {rule.match!r})"
    limit = max(form.max_rank for form in forms)
    takes_work = limit < 1 and Flops.name in saved_by_none(forms)
    if takes_work and all(form.uses is not None and form.uses.dense == 0 for form in forms):
        return _workless(forms, is_beside)
    if limit < 1:
        return _too_small(kernel, rule, forms)
    form = max(forms, key=lambda form: form.max_rank)
    least = min(form.min_rank for form in forms)
    if least > limit:
        multiples = f", in multiples of {form.multiple}," if form.multiple > 1 else ""
        return f"{_floor(rule, least)}{multiples} is above its break-even rank {form.saves}"
    return None


def _workless(forms: Sequence[Factorization], is_beside: bool) -> str:
    """Why no rank saves FLOPs, where the calls of the layer take none."""
    if is_beside:
        return "multiplied with beside its layer alone, of which no FLOPs are counted"
    if all(form.uses == Uses.alike(0) for form in forms):
        return "no forward pass calls it, so it costs no FLOPs"
    return "looked up, which takes no FLOPs, and factors would take some"


def _too_small(kernel: Kernel, rule: LayerRule | None, forms: Sequence[Factorization]) -> str:
    """Why no rank saves enough."""
    (m, n), form = kernel.shape, max(forms, key=lambda form: form.saves)
    if form.saves < 1:
        fewer = max(each.saves_by[Parameters.name] for each in forms)
        units = " and ".join(measure_kinds()[name].unit for name in saved_by_none(forms))
        beside = f" {units or 'of all that is counted'}, though up to {fewer} would of parameters"
        return f"too small: no rank of a {m} x {n} kernel saves enough{beside * (fewer > 0)}"
    return (
        f"too small: no multiple of {form.multiple} saves enough, as ranks of a {m} x {n} kernel "
        f"do only up to {form.saves}"
    )


def saved_by_none(forms: Sequence[Factorization]) -> list[str]:
    """The measures of which no rank of a kernel saves enough."""
    return [name for name in forms[0].saves_by if all(form.saves_by[name] < 1 for form in forms)]


def _floor(rule: LayerRule | None, least: int) -> str:
    """What keeps ranks from being smaller, in words."""
    if rule is not None and rule.min_rank is not None and rule.min_share is None:
        return f"min_rank={rule.min_rank}"
    return f"min_share (rank {least})"


def _asks(rule: LayerRule | None) -> bool:
    """True for a rule that wants a layer cut, whatever speaks against it."""
    return rule is not None and (rule.keep_dense is False or rule.target is not None)
