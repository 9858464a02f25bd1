"""Every kind of timm trunk that we name grows a cell and says the same through ONNX Runtime."""

import numpy as np
import onnxruntime
import pytest
import torch

from m2cnn.export import TOLERANCE, export_onnx
from m2cnn.models import build_network

# resnet, mobilenetv3 and convnext stand in the law suite.
TRUNKS = [
    "resnext50_32x4d",
    "densenet121",
    "efficientnet_b0",
    "mobilenetv2_035",
    "mobilenet_edgetpu_100",
    "regnetx_002",
]
TRUNKS += ["repvgg_a0", "inception_v3", "legacy_xception"]


@pytest.mark.parametrize("name", TRUNKS)
def test_a_grown_trunk_exports(name, tmp_path):
    torch.manual_seed(0)
    network = build_network({"trunk": f"timm:{name}", "residual_blocks": 1}, 6, cells=1)
    size = network.smallest_size()
    pictures = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for _ in range(3):  # batch norms meet the pictures; at random they blow the outputs up
            network.train()(pictures)
        ours = network.eval()(pictures).numpy()
    export_onnx(network, size, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"pictures": pictures.numpy()})[0]
    assert np.abs(theirs - ours).max() < TOLERANCE * max(1, np.abs(ours).max())
