// Iterated function systems in the plane.
#include "cuda/affine_model.h"

FDSL_POINT_KERNELS(affine, AffineModel)
