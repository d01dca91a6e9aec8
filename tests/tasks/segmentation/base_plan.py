"""A plan of one stage; tests replace what they are about."""

from tasks.segmentation.planning.plan import Intensities, Plan

PLAN = Plan(
    configuration="3d_fullres",
    preset="cpu",
    transpose=(0, 1, 2),
    spacing=(1.0, 1.0, 1.0),
    patch_size=(8, 8, 8),
    batch_size=2,
    median_shape=(8.0, 8.0, 8.0),
    normalisation=("zscore",),
    masked_normalisation=(False,),
    intensities=(Intensities(50.0, 20.0, -100.0, 200.0),),
    strides=((1, 1, 1),),
    kernels=((3, 3, 3),),
    widths=(8,),
    blocks=(1,),
    decoder_convs=(),
    residual=True,
    batch_dice=False,
)
