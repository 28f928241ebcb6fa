"""The plain twin of the siamese operations: one image and one operation at a time, by loops, padding and slices."""

import torch
from torch.nn import functional as F


def plain(x, params, ops):
    """[B, C, H, W] -> [B, C, H, W]; ``ops`` are the names behind the codes in ``params["op"]``."""
    out = []
    for b, image in enumerate(x):
        row = {name: v[b] for name, v in params.items()}
        code = int(row["op"])
        out.append(image if code < 0 else ONE[ops[code]](image, row))
    return torch.stack(out)


def sampled(image, theta):
    grid = F.affine_grid(torch.tensor([theta], dtype=image.dtype), [1, *image.shape], align_corners=False)
    return F.grid_sample(image[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


def flip(image, row):
    if not bool(row["mirror"]):
        return image
    return torch.stack([image[:, :, j] for j in range(image.shape[2] - 1, -1, -1)], 2)


def scale(image, row):
    sx, sy = row["grow"].tolist()
    return sampled(image, [[sx, 0, 0], [0, sy, 0]])


def rotate(image, row):
    c, s = row["angle"].cos().item(), row["angle"].sin().item()
    return sampled(image, [[c, -s, 0], [s, c, 0]])


def crop(image, row):
    h, w = image.shape[1:]
    k = max(h, w)
    dy, dx = row["shift"].tolist()
    return F.pad(image, (k, k, k, k))[:, k + dy : k + dy + h, k + dx : k + dx + w]


def cutout(image, row):
    h, w = image.shape[1:]
    top, left = row["corner"].tolist()
    mask = torch.ones(h, w, dtype=image.dtype)
    for i in range(top, top + int(0.5 * h + 0.5)):
        for j in range(left, left + int(0.5 * w + 0.5)):
            if 0 <= i < h and 0 <= j < w:
                mask[i, j] = 0
    return image * mask


def color(image, row):
    offset, saturation, contrast = row["tone"].tolist()
    image = image + offset
    grey = sum(image[c] for c in range(len(image))) / len(image)
    image = torch.stack([(image[c] - grey) * saturation + grey for c in range(len(image))])
    level = image.sum() / image.numel()
    return (image - level) * contrast + level


ONE = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "rotate": rotate, "scale": scale}
