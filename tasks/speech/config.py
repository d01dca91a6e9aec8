"""Configuration of the keyword-spotting task. Imports no heavy library."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from core.config import EvaluateConfig, PredictConfig, RuleConfig, RunConfig, TrainConfig
from core.registry import Registry

MODELS: Registry[type] = Registry("speech model")

SILENCE, UNKNOWN = "silence", "unknown"
"""Names of the two classes that are no words."""
LIVE_INPUTS = ("-", "microphone")
"""Inputs of ``predict --stream`` that are no paths: standard input and the microphone."""
NOISE_FOLDER = "_background_noise_"
"""Folder of long noise recordings in the Speech Commands layout."""


def words_of(classes: Iterable[str]) -> list[str]:
    """Returns the classes that are words, in their order."""
    return [name for name in classes if name not in (SILENCE, UNKNOWN)]


@dataclass
class FeatureConfig:
    """What the network sees of a recording. The defaults are those of the res8 paper (arXiv:1710.10361, section 3).

    Args:
        kind: mfcc, logmel, or pcen (per-channel energy normalisation, arXiv:1607.05666).
        window: Length of the analysis window, samples.
        hop: Samples from one frame to the next.
        n_fft: Length of the Fourier transform, samples; the window by default.
        mels: Mel filters.
        low: Lower edge of the lowest filter, Hz.
        high: Upper edge of the highest filter, Hz.
        coefficients: Cepstral coefficients of mfcc.
        floor: Energies below it count as it, before the logarithm; 0 is the released code's: the logarithm is taken
            of positive energies alone.
        normalise: Mean and deviation that are taken out of a clip: none, clip (one of all its features: loudness), or
            feature (one of each feature over time: the microphone too).
        pad: How the ends of a clip are continued for the first and last frames: reflect or constant (zeros).
    """

    kind: Literal["mfcc", "logmel", "pcen"] = "mfcc"
    window: int = 480
    hop: int = 160
    n_fft: int | None = None
    mels: int = 40
    low: float = 20.0
    high: float = 4000.0
    coefficients: int = 40
    floor: float = 1e-7
    normalise: Literal["none", "clip", "feature"] = "none"
    pad: Literal["reflect", "constant"] = "reflect"


@dataclass
class AugmentConfig:
    """How training clips are changed at random.

    Args:
        speed: Largest change of the speed, as a share; pitch and formants change with it, as with another speaker.
        equaliser: Standard deviation of a smooth random gain over frequency, dB, as with another microphone.
        shift: Largest shift to either side, s; what moves in is zero.
        noise: Probability that noise is added to a clip.
        volume: Largest factor of that noise; recordings are in [-1, 1].
        variants: Versions of each clip whose features are kept, so that they are computed once; each has its own
            shift and noise, and which one is seen is drawn anew. 0 makes a new version every time.
        mel_masks: Widest band of features that is masked (SpecAugment, arXiv:1904.08779); 0 is off.
        time_masks: Widest stretch of frames that is masked; 0 is off.
        masks: Masks of either kind.
    """

    speed: float = 0.0
    equaliser: float = 0.0
    shift: float = 0.1
    noise: float = 0.8
    volume: float = 0.1
    variants: int = 8
    mel_masks: int = 0
    time_masks: int = 0
    masks: int = 2


@dataclass
class DataConfig(AugmentConfig):
    """Which recordings, and how they are split.

    Args:
        name: auto, synthetic, espeak or folder. auto is synthetic when no path is given, else folder.
        path: Your folder: one folder of recordings for each word (with validation_list.txt and testing_list.txt
            where they are, as in Speech Commands), or files named word_speaker_number as in FSDD.
        test_path: Folder of the same kind to test on; by default the lists or test_share decide.
        rate: Sampling rate, Hz; recordings of another rate are resampled.
        duration: Length of a clip, s; shorter ones are filled up, of longer ones the loudest part is taken.
        words: Words to spot; by default those with least or more recordings. All others are the unknown class.
        least: Fewest recordings of a word that is chosen by default.
        unknown: Recordings of other words, as a share of those of the words to spot.
        silence: Recordings of noise without a word, as a share of those of the words to spot.
        noise_path: Folder of long noise recordings; by default _background_noise_ in the data, else noise is made.
        speaker: Regular expression on the names of the files; what it finds names the speaker. By default the names
            of Speech Commands and of FSDD are understood. A speaker is never on both sides of a split.
        test_share: Share of the speakers that is held out where there are no lists.
        validation_share: Share of the other speakers that thresholds and early stopping are decided on.
        folds: Cross-validation over speakers: number of folds, one network each; as many folds as speakers leave one
            speaker out at a time. 0 is off.
        old_path: Folder of the data of the model that is extended with new words (--extend.model): some of its
            recordings are rehearsed, and what is forgotten is measured on its test.
        old_words: Words of the model that is extended; known from it.
        old_split: How the data of that model was split; known from it.
        replay: Recordings of each old class that are rehearsed.
        memory: Most memory that loaded recordings take, GB; what is beyond lies in a file in $SKIPWAY_CACHE or
            ~/.cache/skipway, which is slower. By default a quarter of the machine's.
    """

    name: Literal["auto", "synthetic", "espeak", "folder"] = "auto"
    path: str | None = None
    test_path: str | None = None
    rate: int = 16000
    duration: float = 1.0
    words: list[str] | None = None
    least: int = 20
    unknown: float = 0.1
    silence: float = 0.1
    noise_path: str | None = None
    speaker: str | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    folds: int = 0
    old_path: str | None = None
    old_words: list[str] | None = None
    old_split: dict[str, Any] | None = None
    replay: int = 20
    memory: float | None = None


@dataclass
class ResConfig(RuleConfig):
    """One of the residual networks of Tang and Lin (arXiv:1710.10361, table 1).

    Args:
        width: Channels; 45, or 19 in the narrow forms.
        layers: Convolutions after the first.
        pool: Height and width of the average pooling after the first convolution, 1 for none.
        dilated: Double the dilation every three layers.
        scales: Learned factors of the channels after every second norm, as some released weights have.
    """

    name: str = "res8_narrow"
    width: int = 19
    layers: int = 6
    pool: list[int] = field(default_factory=lambda: [4, 3])
    dilated: bool = False
    scales: bool = False


@MODELS.register("res8_narrow")
@dataclass
class Res8NarrowConfig(ResConfig):
    """res8-narrow: 6 layers of 19 channels, pooled 4 x 3."""


@MODELS.register("res8")
@dataclass
class Res8Config(ResConfig):
    """res8: 6 layers of 45 channels, pooled 4 x 3."""

    name: str = "res8"
    width: int = 45


@MODELS.register("res15_narrow")
@dataclass
class Res15NarrowConfig(ResConfig):
    """res15-narrow: 13 dilated layers of 19 channels."""

    name: str = "res15_narrow"
    layers: int = 13
    pool: list[int] = field(default_factory=lambda: [1, 1])
    dilated: bool = True


@MODELS.register("res15")
@dataclass
class Res15Config(Res15NarrowConfig):
    """res15: 13 dilated layers of 45 channels."""

    name: str = "res15"
    width: int = 45


@MODELS.register("res26_narrow")
@dataclass
class Res26NarrowConfig(ResConfig):
    """res26-narrow: 24 layers of 19 channels, pooled 2 x 2."""

    name: str = "res26_narrow"
    layers: int = 24
    pool: list[int] = field(default_factory=lambda: [2, 2])


@MODELS.register("res26")
@dataclass
class Res26Config(Res26NarrowConfig):
    """res26: 24 layers of 45 channels, pooled 2 x 2."""

    name: str = "res26"
    width: int = 45


@MODELS.register("bcresnet")
@dataclass
class BCResNetConfig(RuleConfig):
    """BC-ResNet-tau (arXiv:2106.04140, table 1). Made for 40 log-mel energies: --features.kind logmel.

    Args:
        tau: Multiple of 8 channels: 1, 1.5, 2, 3, 6 or 8.
        dropout: Share of the channels that is dropped in training.
        sub_bands: Bands of frequency that are normalised apart; they divide a quarter of the mel filters.
    """

    name: str = "bcresnet"
    tau: float = 1.0
    dropout: float = 0.1
    sub_bands: int = 5


@MODELS.register("backbone")
@dataclass
class BackboneConfig(RuleConfig):
    """Any network of core.backbones on the features.

    Args:
        backbone: Its name, see python -m core.backbones.
        dims: 2 sees features over time and frequency, 1 sees frequencies as channels over time.
        options: Options of create_backbone, such as {norm: group}.
    """

    name: str = "backbone"
    backbone: str = "resnet18"
    dims: int = 2
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class SpeechTrainConfig(TrainConfig):
    """How the one training loop runs (``core/train/loop.py``).

    Args:
        balance: What is done about classes of unequal size: none, loss (rare classes count more) or samples (all are
            drawn equally often).
        smoothing: Label smoothing.
    """

    batch_size: int = 64
    channels_last: bool = True
    balance: Literal["none", "loss", "samples"] = "none"
    smoothing: float = 0.0


@dataclass
class SpeechScoringConfig:
    """How a trained model is scored.

    Args:
        false_alarms: Budget of false alarms an hour, for which the threshold of the detector is chosen.
        stream: Score the detector too, on a recording made of the test clips in noise.
        hop: Time between two looks at a stream, s; the nearest whole number of frames of the features is taken.
        average: Time over which the scores of a stream are averaged, s.
        refractory: Time after a detection in which the same word is not detected again, s.
        seed: Seed of that recording.
    """

    false_alarms: float = 1.0
    stream: bool = True
    hop: float = 0.1
    average: float = 0.3
    refractory: float = 1.0
    seed: int = 0


@dataclass
class ExtendConfig:
    """New words for a trained model.

    Args:
        model: Trained model whose words are kept, named as for predict --model; --data.path then has the new words.
        method: boost (a second network learns what the first, which stays as it is, lacks: gradient boosting as in
            FOSTER, arXiv:2204.04662), distill (its outputs on all recordings are learned too), tune (it learns on), or
            auto: boost where old_path has recordings of the old words, else distill.
        weight: Share of its outputs in the loss of distill, from 0 to 1.
        temperature: Softens its outputs.
        weights: SHA-256 of its weights; known from it.
    """

    model: str | None = None
    weights: str | None = None
    method: Literal["auto", "tune", "distill", "boost"] = "auto"
    weight: float = 0.5
    temperature: float = 2.0


@dataclass
class SpeechConfig(RunConfig):
    """Trains a keyword spotter.

    Args:
        data: Recordings.
        features: What the network sees of them; part of the model.
        scoring: How a model is scored.
        extend: New words for a trained model.
    """

    train: SpeechTrainConfig = field(default_factory=SpeechTrainConfig)
    data: DataConfig = field(default_factory=DataConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    model: Any = field(default_factory=Res8NarrowConfig)
    scoring: SpeechScoringConfig = field(default_factory=SpeechScoringConfig)
    extend: ExtendConfig = field(default_factory=ExtendConfig)


@dataclass
class SpeechEvaluateConfig(EvaluateConfig):
    """Scores a trained keyword spotter on the held-out recordings of its data set, or on other recordings.

    Args:
        data: Recordings. With test_path alone, nothing else is read and all of it is tested.
        scoring: How a model is scored.
    """

    data: DataConfig = field(default_factory=DataConfig)
    scoring: SpeechScoringConfig = field(default_factory=SpeechScoringConfig)


@dataclass
class SpeechPredictConfig(PredictConfig):
    """Says which word a recording holds, or when words are spoken in a long one.

    Args:
        input: Recording, or folder of recordings; with stream also - (PCM of 16 bit from standard input) or
            microphone.
        output: CSV file, or with stream a file of JSON lines; by default words.csv, or standard output.
        stream: Look for words over time and write an event for each.
        rate: Sampling rate of standard input and microphone, Hz; the model's by default.
        threshold: Least score of an event, between 0 and 1, with stream; by default the one for false_alarms.
        false_alarms: Budget of false alarms an hour, with stream; by default the one of the training.
        hop: Time between two looks at a recording longer than a clip, or at a stream, s, rounded to whole frames of
            the features; by default that of the training.
        average: Time over which scores are averaged, s, with stream; by default that of the training.
        refractory: Time after an event in which the same word gives no other, s, with stream; by default that of the
            training.
    """

    stream: bool = False
    rate: int | None = None
    threshold: float | None = None
    false_alarms: float | None = None
    hop: float | None = None
    average: float | None = None
    refractory: float | None = None
