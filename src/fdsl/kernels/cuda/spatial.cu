// Iterated function systems in space.
#include "cuda/spatial_model.h"

FDSL_POINT_KERNELS(spatial, SpatialModel)
