#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_portable.h"
#include "cpu/spatial_painter.h"

namespace fdsl {

const Kernel kernel_portable = {"portable",
                                draw_points<Portable, AffineModel<Portable>>,
                                measure_affine<Portable>,
                                draw_points<Portable, SpatialModel<Portable>>,
                                measure_spatial<Portable>,
                                draw_cloud<Portable>,
                                draw_cloud_picture<Portable>};

}  // namespace fdsl
