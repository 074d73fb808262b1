"""What every refusal looks like: one sentence and a remedy."""

import pytest

from samoyeds_gen.errors import SamoyedsError


def refused(call, kind, start):
    with pytest.raises(SamoyedsError) as caught:
        call()
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(start), message
    assert caught.value.remedy
    assert "\n" not in message
    assert ". " not in caught.value.sentence
