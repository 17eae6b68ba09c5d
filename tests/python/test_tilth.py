"""Tests of the Python package. Run in an empty folder, with TILTH_LIBRARY and PYTHONPATH set."""

import gc
import pathlib
import struct
import unittest

import numpy as np
import tilth

TINY = {"data.text": "text.txt", "train.steps": 100, "model.layers": 2, "model.dim": 64, "run.name": "tiny"}


def setUpModule():
    lines = [f"The man number {i} plays the flute.\nThe woman number {i} sings.\n" for i in range(200)]
    pathlib.Path("text.txt").write_text("".join(lines))
    rows = [f"day\tsun number {i}\nnight\tmoon number {i}\n" for i in range(60)]
    pathlib.Path("labels.tsv").write_text("".join(rows))
    words = [f"Anna B-PER\nsees O\n{'sun' if i % 2 else 'moon'} B-THING\n\n" for i in range(60)]
    pathlib.Path("words.conll").write_text("".join(words))
    scores = [f"{i % 2}.5\tthe {'sun' if i % 2 else 'moon'} number {i}\n" for i in range(60)]
    pathlib.Path("scores.tsv").write_text("label\ttext\n" + "".join(scores))
    global base
    base = tilth.train(TINY, preset="shakespeare-char")


class Library(unittest.TestCase):
    def test_error_carries_message_and_status(self):
        with self.assertRaises(tilth.Error) as e:
            tilth.Tokenizer("nowhere")
        self.assertEqual(e.exception.status, "NOINPUT")
        self.assertIn("nowhere", str(e.exception))

    def test_version_is_that_of_the_package(self):
        project = pathlib.Path(__file__).parent.parent.parent / "python/pyproject.toml"
        self.assertIn(f'version = "{tilth.__version__}"', project.read_text())

    def test_context(self):
        context = tilth.Context(threads=1, cpu="ref")
        self.assertEqual((context.threads, context.cpu), (1, "ref"))
        with self.assertRaises(tilth.Error):
            tilth.Context(cpu="abacus")


class Tokenizers(unittest.TestCase):
    def test_bytes_round_trip(self):
        t = tilth.Tokenizer("bytes")
        ids = t.encode("Grüße")
        self.assertEqual(ids.dtype, np.uint32)
        self.assertEqual(len(ids), 7)
        self.assertEqual(t.decode(ids), "Grüße")
        self.assertEqual(t.decode_bytes(t.encode(b"a\0\xff")), b"a\0\xff")
        self.assertEqual(t.encode("").size, 0)
        self.assertEqual(t.special("bos"), 1)

    def test_ids_outlive_the_tokenizer(self):
        ids = tilth.Tokenizer("bytes").encode("abc" * 1000)
        gc.collect()
        self.assertEqual(len(set(ids.tolist())), 3)

    def test_training_and_file(self):
        t = tilth.Tokenizer.train(("the cat sat on the mat" for _ in range(9)), vocab_size=270)
        self.assertEqual((len(t), t.type), (270, "bpe"))
        t.save("tok")
        again = tilth.Tokenizer("tok")
        np.testing.assert_array_equal(t.encode("the hat"), again.encode("the hat"))
        self.assertEqual(again.id(again.token(269)), 269)
        self.assertIsNone(again.id("no such token"))

    def test_exception_of_the_texts_comes_out(self):
        def texts():
            yield "a text"
            raise KeyError("broken source")

        with self.assertRaisesRegex(KeyError, "broken source"):
            tilth.Tokenizer.train(texts(), vocab_size=270)


class Training(unittest.TestCase):
    def test_result(self):
        self.assertEqual(base.steps, 100)
        self.assertLess(base.loss, 3)
        self.assertTrue((base.model / "model.safetensors").exists())

    def test_progress_and_cancel_and_resume_to_the_same_bits(self):
        seen = []
        with self.assertRaises(tilth.Stopped) as e:
            tilth.train({**TINY, "run.dir": "stopped"}, preset="shakespeare-char", progress=seen.append,
                        cancel=lambda: len(seen) >= 3)
        self.assertIn("tilth resume", str(e.exception))
        self.assertEqual([p.step for p in seen if p.note is None][:3], [1, 10, 20])
        self.assertGreater(seen[0].loss, seen[2].loss)
        (run,) = pathlib.Path("stopped").glob("tiny-*")
        result = tilth.resume(run)
        self.assertEqual(result.steps, 100)
        self.assertEqual((result.model / "model.safetensors").read_bytes(),
                         (base.model / "model.safetensors").read_bytes())

    def test_exception_in_a_callback_stops_and_comes_out(self):
        def fail(p):
            raise ZeroDivisionError("in the callback")

        with self.assertRaisesRegex(ZeroDivisionError, "in the callback"):
            tilth.train({**TINY, "train.steps": 10**9}, preset="shakespeare-char", progress=fail)
        with self.assertRaises(ZeroDivisionError):
            tilth.train({**TINY, "train.steps": 10**9}, preset="shakespeare-char", cancel=lambda: 1 / 0)

    def test_configuration(self):
        c = tilth.Config({"data.text": ["a.txt", "b.txt"], "model.tie": False}, preset="gpt2")
        self.assertIn("tie: false", c.yaml())
        self.assertIn("b.txt", c.yaml())
        with self.assertRaises(tilth.Error) as e:
            tilth.train({"train.stepz": 3})
        self.assertEqual(e.exception.status, "CONFIG")
        self.assertIn("train.steps", str(e.exception))


class Models(unittest.TestCase):
    def finetune(self, data, task, **settings):
        keys = {"task." + k: v for k, v in settings.items()}
        return tilth.finetune(base.model, data, task, {"task.max_len": 48, "train.steps": 20, "optim.lr": 3e-3, **keys})

    def test_classes(self):
        result = self.finetune("labels.tsv", "classify")
        self.assertEqual((result.metric, result.best, result.valid["accuracy"]), ("accuracy", 1, 1))
        p = tilth.Predictor(result.model)
        self.assertEqual((p.labels, p.task), (["day", "night"], "classify"))
        answer = p.predict(["sun number 77", "moon number 77", "sun number 5"])
        self.assertEqual(answer.label, ["day", "night", "day"])
        self.assertEqual(answer.output.shape, (3, 2))
        np.testing.assert_allclose(answer.output.sum(axis=1), 1, rtol=1e-5)
        with self.assertRaises(tilth.Error) as e:
            p.predict(["good", " "])
        self.assertIn("text 1 is empty", str(e.exception))
        with self.assertRaises(TypeError):
            p.predict("one text")
        with self.assertRaises(ValueError):
            p.predict(["a\0b"])
        output = answer.output
        del p, answer
        gc.collect()
        self.assertAlmostEqual(float(output.sum()), 3, places=4)

    def test_tags_and_values(self):
        p = tilth.Predictor(self.finetune("words.conll", "tokens").model)
        answer = p.predict(["Anna sees sun", "Anna  sees"])
        self.assertEqual([len(t) for t in answer.tag], [3, 2])
        self.assertLessEqual({t for tags in answer.tag for t in tags}, set(p.labels))
        self.assertEqual(answer.output.shape, (5, len(p.labels)))
        p = tilth.Predictor(self.finetune("scores.tsv", "regression").model)
        self.assertEqual(p.predict(["the sun number 1", "the moon number 2"]).value.shape, (2,))

    def test_pictures(self):
        bars = np.tile([160, 160, 40, 40], (60, 8, 2)).astype(np.uint8)  # that stand; of every other one lie
        bars[::2] = bars[::2].transpose(0, 2, 1)
        bars += np.random.default_rng(0).integers(0, 40, bars.shape, np.uint8)
        head = struct.pack(">HBBIII", 0, 8, 3, *bars.shape)
        pathlib.Path("bars-images-idx3-ubyte").write_bytes(head + bars.tobytes())
        labels = bytes(i % 2 for i in range(60))
        pathlib.Path("bars-labels-idx1-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 60) + labels)
        shape = {"dim": 16, "layers": 1, "heads": 2, "patch": 4, "type": "vit"}
        result = tilth.finetune("", "bars-images-idx3-ubyte", "image_classify", {
            **{"model." + k: v for k, v in shape.items()}, "train.steps": 100, "train.batch": 16, "optim.lr": 5e-3})
        p = tilth.Predictor(result.model)
        self.assertEqual((p.task, p.labels), ("image_classify", ["0", "1"]))
        answer = p.predict_pictures("bars-images-idx3-ubyte")
        self.assertEqual(answer.label, ["0", "1"] * 30)
        self.assertEqual(answer.output.shape, (60, 2))
        self.assertEqual(answer.name[59], "bars-images-idx3-ubyte:59")
        with self.assertRaises(tilth.Error) as e:
            p.predict(["a text"])
        self.assertIn("reads pictures", str(e.exception))
        with self.assertRaises(tilth.Error):
            p.predict_pictures("nowhere")

    def test_embeddings(self):
        e = tilth.Embedder(base.model)
        x = e.embed(["The man", "The woman", "The man"])
        self.assertEqual((x.shape, x.dtype), ((3, e.dim), np.float32))
        np.testing.assert_array_equal(x[0], x[2])
        np.testing.assert_allclose((x * x).sum(axis=1), 1, rtol=1e-4)
        self.assertEqual(e.embed([]).shape, (0, e.dim))

    def test_generation(self):
        g, pieces = tilth.Generator(base.model), []
        text = g.generate("The ", emit=pieces.append, max_tokens=30, seed=4)
        self.assertEqual("".join(pieces), text)
        self.assertEqual(g.generate("The ", max_tokens=30, seed=4), text)
        self.assertNotEqual(g.generate("The ", max_tokens=30, seed=5), text)
        with self.assertRaises(TypeError):
            g.generate("The ", heat=1)
        with self.assertRaises(ZeroDivisionError):
            g.generate("The ", emit=lambda t: 1 / 0)


class Safetensors(unittest.TestCase):
    def test_round_trip(self):
        tensors = {"a": np.arange(6.0).reshape(2, 3), "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
                   "scalar": np.float32(3), "none": np.empty((0, 4), np.uint8), "yes": np.array([True, False]),
                   "big": np.arange(3, dtype=">i4"), "half": np.ones(3, np.float16)}
        tilth.save_safetensors("x.safetensors", tensors, {"made by": "a test"})
        loaded = tilth.load_safetensors("x.safetensors")
        self.assertEqual(set(loaded), set(tensors))
        for name, value in tensors.items():
            np.testing.assert_array_equal(loaded[name], value)
            self.assertEqual(loaded[name].dtype, np.asarray(value).dtype.newbyteorder("<"))
        self.assertEqual(loaded.dtype("half"), "F16")
        with self.assertRaises(KeyError):
            loaded["b"]
        with self.assertRaises(TypeError):
            tilth.save_safetensors("y.safetensors", {"a": np.array(["text"])})

    def test_views_are_of_the_file_and_outlive_it(self):
        loaded = tilth.load_safetensors(base.model)
        name = max(loaded, key=lambda n: loaded[n].size)
        a, b = loaded[name], loaded[name]
        self.assertEqual(a.ctypes.data, b.ctypes.data)
        with self.assertRaises(ValueError):
            a[...] = 0
        total = float(a.sum())
        del loaded, b
        gc.collect()
        self.assertEqual(float(a.sum()), total)

    def test_bfloat16_becomes_float32(self):
        header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
        data = struct.pack("<Q", len(header)) + header + struct.pack("<HH", 0x3FC0, 0xC000)
        pathlib.Path("bf16.safetensors").write_bytes(data)
        np.testing.assert_array_equal(tilth.load_safetensors("bf16.safetensors")["x"], np.float32([1.5, -2]))


if __name__ == "__main__":
    unittest.main()
