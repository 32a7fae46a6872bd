"""The shapes that are compared; input/hidden/layers/T/batch."""

from fastlstm.cli.work import Shape

SHAPES = (
    Shape("mnist", 28, 128, 1, 28, 128),
    Shape("amp", 1, 24, 1, 512, 16),
    Shape("sine", 1, 32, 1, 30, 32),
    Shape("sine1", 1, 133, 1, 30, 1),
    Shape("mnist1", 28, 785, 1, 28, 1),
    Shape("policy", 64, 256, 1, 256, 8),
    Shape("hydrology", 31, 128, 1, 365, 256),
    Shape("big", 1024, 1024, 1, 32, 128),
    Shape("forecast", 1, 128, 2, 72, 128),
    Shape("spacecraft", 25, 80, 2, 250, 64),
    Shape("speech", 65, 128, 2, 50, 50),
    Shape("language", 256, 512, 2, 64, 64),
    Shape("words", 650, 650, 2, 35, 20),
    Shape("infer512", 512, 512, 1, 100, 1, train=False),
    Shape("infer1024", 1024, 1024, 1, 50, 64, train=False),
    Shape("infer2048", 256, 2048, 1, 10, 1, train=False),
    Shape("infer4", 1024, 1024, 1, 20, 4, train=False),
    Shape("infer40", 1, 40, 1, 2048, 1, train=False),
    Shape("infer-bi1", 60, 128, 2, 500, 1, bidirectional=True, train=False),
    Shape("infer-bi32", 60, 128, 2, 500, 32, bidirectional=True, train=False),
)
