#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_avx512.h"
#include "cpu/spatial_painter.h"

namespace fdsl {

const Kernel kernel_avx512 = {"avx512",
                              draw_points<Avx512, AffineModel<Avx512>>,
                              measure_affine<Avx512>,
                              draw_points<Avx512, SpatialModel<Avx512>>,
                              measure_spatial<Avx512>,
                              draw_cloud<Avx512>,
                              draw_cloud_picture<Avx512>};

}  // namespace fdsl
