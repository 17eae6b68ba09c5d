"""Fine-tunes a pretrained model on labelled records and classifies new texts.

    python3 finetune.py MODEL train.tsv "a text" "another text" """

import sys

import tilth

model, data, *texts = sys.argv[1:]
result = tilth.finetune(model, data)
print(f"{result.run}: {result.metric} {result.best:.4f} on {result.n_valid} validation records")

answer = tilth.Predictor(result.model).predict(texts)
for text, label, probability in zip(texts, answer.label, answer.output):
    print(f"{label} ({100 * probability.max():.0f} %): {text}")
