#include "cpu/affine_painter.h"
#include "cpu/given_painter.h"
#include "cpu/lanes_neon.h"

namespace fdsl {

const Kernel kernel_neon = {"neon", draw_affine<Neon>, measure_affine<Neon>, draw_given_points<Neon>,
                            draw_given_polylines<Neon>};

}  // namespace fdsl
