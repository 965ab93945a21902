"""Samplers by name."""

import pytest

from recbole_hns.errors import UserError
from recbole_hns.sampler import SAMPLERS, HardNegativeSampler, register_sampler, sampler_class
from recbole_hns.sampler.dns import DNS


def test_every_sampler_is_registered_under_its_file_name():
    ours = {n: cls for n, cls in SAMPLERS.items() if cls.__module__.startswith("recbole_hns.")}
    assert list(ours) == [cls.__module__.rpartition(".")[2] for cls in ours.values()]
    assert all(name == cls.name for name, cls in ours.items())


def test_a_name_or_a_class_or_a_module_is_found():
    assert sampler_class("dns") is DNS
    assert sampler_class(DNS) is DNS
    assert sampler_class("recbole_hns.sampler.dns:DNS") is DNS


def test_a_class_can_be_registered(monkeypatch):
    monkeypatch.setattr("recbole_hns.sampler.registry.SAMPLERS", dict(SAMPLERS))
    cls = register_sampler("mine")(type("Mine", (HardNegativeSampler,), {}))
    assert cls.name == "mine"
    assert sampler_class("mine") is cls


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ahn", r"sampler=ahn: must be one of .* \(did you mean ahns\?\)"),
        ("math:sqrt", "sampler=math:sqrt: must be a subclass of HardNegativeSampler"),
        ("math:nothing", "sampler=math:nothing: cannot be imported: AttributeError"),
        ("nowhere:Some", "sampler=nowhere:Some: cannot be imported: ModuleNotFoundError"),
    ],
)
def test_what_is_refused(name, text):
    with pytest.raises(UserError, match=text):
        sampler_class(name)
