"""The counters, as Prometheus reads them."""

from __future__ import annotations

import re

from web_service import client_of, picture


def test_requests_images_and_batches_are_counted(saved):
    with client_of(saved) as (client, service):
        for seed in range(3):
            client.post("/predict", files=[("images", ("a.png", picture(seed)))] * 2)
        for path in ("/nowhere", "/nowhere/else", "/predict/7"):
            client.get(path)
        client.request("BREW", "/predict")
        with service.images.held(5):
            text = client.get("/metrics").text
    values = {
        name: float(value) for name, value in re.findall(r"^(\S+(?:\{.*\})?) (\S+)$", text, re.MULTILINE) if "_created" not in name
    }  # fmt: skip
    assert values['segp_requests_total{endpoint="/predict",method="POST",status="200"}'] == 3
    assert values['segp_requests_total{endpoint="other",method="GET",status="404"}'] == 3
    assert [name for name in values if "other" in name and "requests_total" in name and "405" in name] != []
    assert not [name for name in values if "nowhere" in name or "BREW" in name]
    assert values["segp_images_total"] == 6 and values["segp_batch_images_sum"] == 6
    assert values["segp_images_in_hand"] == 5 and values["segp_classes"] == 4 and values["segp_stale"] == 0
    assert values['segp_request_seconds_count{endpoint="/predict"}'] >= 3
