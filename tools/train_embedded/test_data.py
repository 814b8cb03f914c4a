"""Composed scenes in, failures out: what the training must never see, and what the captions must say. `python -m unittest test_data`"""
import unittest

import numpy as np

import compose
import sample
import separate
import settings
import words


def composer():
    concepts = words.concepts("short")
    blank = np.ones((len(concepts), 128, 128, 4), np.float32)
    return compose.Composer(concepts, blank, 64)


class Data(unittest.TestCase):
    def test_no_held_out_pair_is_drawn(self):
        """Of every object in a picture, the second of a pair included, and with the background that is shown when none is named."""
        subject, rng = composer(), np.random.default_rng(3)
        for _ in range(20000):
            scene = subject.scene(rng)
            for i, tint, *_ in subject.objects(scene):
                self.assertFalse(words.held_out("background", subject.concepts[i].name, scene.background or "white"))
                if tint:
                    self.assertFalse(words.held_out("tint", subject.concepts[i].name, tint))

    def test_a_tenth_is_held_out(self):
        pairs = [(c.name, color) for c in words.concepts("all") for color in words.COLORS if color != "white"]
        share = np.mean([words.held_out("background", *pair) for pair in pairs])
        self.assertAlmostEqual(share, 0.1, delta=0.03)

    def test_captions(self):
        subject = composer()
        at = {c.name: i for i, c in enumerate(subject.concepts)}
        scene = compose.Scene(at["apple"], background="orange", size="small", place="top")
        self.assertEqual(subject.caption(scene), "a small apple at the top on an orange background")
        self.assertEqual(subject.caption(compose.Scene(at["cup of coffee"], count=3, tint="red")), "three red cups of coffee")
        self.assertEqual(subject.caption(compose.Scene(at["owl"], second=at["umbrella"])), "an owl and an umbrella")
        scene = compose.Scene(at["car"], tint="red", second=at["owl"], second_tint="orange", background="blue")
        self.assertEqual(subject.caption(scene), "a red car and an orange owl on a blue background")
        self.assertEqual(subject.caption(compose.Scene(at["cat"], size="small", count=4)), "four small cats")

    def test_halves_of_a_pair(self):
        """Each half is a caption that the composer could write, with the pair's tint and background."""
        self.assertEqual(separate.halves("a red cat and an owl", None), ("a red cat on the left", "an owl on the right"))
        self.assertEqual(separate.halves("a cat and a blue owl", None), ("a cat on the left", "a blue owl on the right"))
        wanted = ("a cup of coffee on the left on a light blue background", "an owl on the right on a light blue background")
        self.assertEqual(separate.halves("a cup of coffee and an owl on a light blue background", "light blue"), wanted)

    def test_halves_of_every_pair(self):
        subject, rng, seen = composer(), np.random.default_rng(4), 0
        while seen < 2000:
            scene = subject.scene(rng)
            if scene.second is not None:
                seen += 1
                for half in separate.halves(subject.caption(scene, rng), scene.background):
                    self.assertNotIn(" and ", half)
                    self.assertEqual(half.count(" background"), int(scene.background is not None))

    def test_synonyms_are_separate(self):
        names = [n for c in words.concepts("all") for n in c.names]
        self.assertFalse([n for n in names if "," in n or "|" in n])

    def test_noise_does_not_depend_on_the_batch(self):
        self.assertTrue(np.array_equal(sample.noise([4, 9])[1:], sample.noise([9])))

    def test_overrides(self):
        self.assertEqual(settings.load("cpu64", assignments=["diffusion.batch=8"]).diffusion.batch, 8)


if __name__ == "__main__":
    unittest.main()
