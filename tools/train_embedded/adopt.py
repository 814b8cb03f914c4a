"""An exported diffusers folder in, its tokenizer, text encoder, VAE and U-Net as this work folder's starting point out.

After it only the latents are encoded and the U-Net is trained: the way to go on from weights that exist, with another list of concepts."""
from pathlib import Path

import torch

import folder
import settings


def main():
    args, _ = settings.parse(__doc__.splitlines()[0], [(["folder"], {"help": "the diffusers folder to start from"})])
    (args.work / "tokenizer").mkdir(exist_ok=True)
    for file in Path(args.folder, "tokenizer").iterdir():
        (args.work / "tokenizer" / file.name).write_bytes(file.read_bytes())
    torch.save(folder.read_text(args.folder).state_dict(), args.work / "text.pt")
    torch.save(folder.read_vae(args.folder).state_dict(), args.work / "folded_vae.pt")
    torch.save(folder.read_unet(args.folder).state_dict(), args.work / "start.pt")
    print("adopted", args.folder)


if __name__ == "__main__":
    main()
