#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_avx2.h"
#include "cpu/spatial_painter.h"

namespace fdsl {

const Kernel kernel_avx2 = {"avx2",
                            draw_points<Avx2, AffineModel<Avx2>>,
                            measure_affine<Avx2>,
                            draw_points<Avx2, SpatialModel<Avx2>>,
                            measure_spatial<Avx2>,
                            draw_cloud<Avx2>,
                            draw_cloud_picture<Avx2>};

}  // namespace fdsl
