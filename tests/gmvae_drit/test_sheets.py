import tiny
import torch

from gmvae_drit.sheets import CAPTION_WIDTH, captioned, translation_sheet
from gmvae_drit.translator import Translator


def test_sheet_has_a_row_for_each_component_and_the_references():
    torch.manual_seed(0)
    translator = Translator(tiny.settings(), 2).eval()
    image, reference = 2 * torch.rand(5, 3, 32, 32) - 1, 2 * torch.rand(5, 3, 32, 32) - 1
    sheet = translation_sheet(translator, image, reference, 1, "day", 1.0)
    rows, columns, side = 1 + 3 + 2, 5, 2 * 32 + 2
    assert sheet.dtype == torch.uint8
    assert sheet.shape == (3, rows * side + 2, CAPTION_WIDTH + columns * side + 2)
    shown = sheet[:, 2:66:2, CAPTION_WIDTH + 2 : CAPTION_WIDTH + 66 : 2].float() / 127.5 - 1
    torch.testing.assert_close(shown, image[0], atol=1 / 127, rtol=0)


def test_captions_are_written_left_of_their_rows():
    dark = -torch.ones(2, 3, 64, 64)
    sheet = captioned([("first", dark), ("", dark)])
    margin = sheet[:, :, :CAPTION_WIDTH]
    upper, lower = margin[:, :66], margin[:, 66:]
    assert (upper < 128).any()
    assert (lower == 255).all()


def test_long_captions_make_room_for_themselves():
    dark = -torch.ones(2, 3, 64, 64)
    sheet = captioned([("a caption as long as the name of some photographs", dark)])
    assert sheet.shape[2] > CAPTION_WIDTH + 2 * 66 + 2
    assert (sheet[:, 2:66, -2 - 2 * 66 + 2 : -68] == 0).all()
