#include "cpu/affine_painter.h"
#include "cpu/clouds_painter.h"
#include "cpu/lanes_neon.h"
#include "cpu/spatial_painter.h"

namespace fdsl {

const Kernel kernel_neon = {"neon",
                            draw_points<Neon, AffineModel<Neon>>,
                            measure_affine<Neon>,
                            draw_points<Neon, SpatialModel<Neon>>,
                            measure_spatial<Neon>,
                            draw_cloud<Neon>,
                            draw_cloud_picture<Neon>};

}  // namespace fdsl
