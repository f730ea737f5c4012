// Where a picture lies, whatever draws it: the records that all drawings share, and the way from the formula's plane to
// the pixels.
#pragma once

#include "elementary.h"
#include "philox.h"

namespace fdsl {

enum Draw : int32_t { DRAW_POINT = 0, DRAW_PATCH = 1, DRAW_PATCH_PER_POINT = 2 };
enum Color : int32_t { COLOR_GRAY = 0, COLOR_COLOR = 1, COLOR_DENSITY = 2 };
enum Fit : int32_t { FIT_OWN = 0, FIT_STORED = 1 };
enum View : int32_t { VIEW_FIT = 0, VIEW_CROP = 1, VIEW_RANDOM = 2 };

struct Box {
  float x0, x1, y0, y1;
};
FDSL_INLINE void widen(Box& box, const Box& by) {
  box.x0 = by.x0 < box.x0 ? by.x0 : box.x0;
  box.x1 = by.x1 > box.x1 ? by.x1 : box.x1;
  box.y0 = by.y0 < box.y0 ? by.y0 : box.y0;
  box.y1 = by.y1 > box.y1 ? by.y1 : box.y1;
}

// x, y -> m00 x + m01 y + t0, m10 x + m11 y + t1
struct Placement {
  double m00, m01, m10, m11, t0, t1;
};

// Which picture: the head of every record. primitives.py has the same fields.
struct Key {
  uint32_t category;  // row of the catalog
  uint32_t number;    // keys what the instance draws of its own
  uint32_t epoch;     // likewise; 0 unless instances are drawn anew each epoch
  uint32_t instance;  // keys the view, with the two below
  uint32_t view_epoch;
  uint32_t repeat;
  uint32_t neighbours;  // of a patch: bit k is neighbour k of eight, row by row
  uint32_t flip;        // bit 0 top-bottom, bit 1 left-right
};

// What all pictures of a batch share.
struct Spec {
  double scale[2], log_ratio[2];  // of a random view: share of the picture's area, logarithm of width / height
  double rotation;                // of a random view: at most this, either way, in turns
  double flip;                    // of a random view: chance of a left-right flip
  uint64_t seed;
  int32_t size, of;  // pixels of the output's side; of the whole picture's side
  int32_t points, pad;
  Draw draw;
  Color color;
  Fit fit;
  View view;
};

// Where to draw: cells [u0, u1) x [v0, v1) of the plane that `placement` maps to, seen from (left, top).
//
// Cells are pixels moved by MARGIN, so that truncation and clamping at zero agree. The cells around the rectangle
// collect what falls outside and are wiped afterwards: a clamp costs less than leaving out a lane.
struct Window {
  Placement placement;
  int32_t u0, u1, v0, v1;
  int32_t left, top;
  bool mirror;  // left-right
};
constexpr int MARGIN = 2;

// From a box to [pad, side - pad): the first corner goes to the first pixel, the last to the last. An axis of zero
// width goes to the first pixel. 2^-8 of a pixel keeps rounding from pushing the extreme points out.
FDSL_INLINE void place_axis(float low, float high, int side, int pad, double& scale, double& shift) {
  const double width = static_cast<double>(high) - static_cast<double>(low);
  const double pixels = side - 2 * pad - 1;
  scale = width > 0.0 ? (pixels > 0.0 ? pixels : 0.5) / width : 1.0;  // 0.5: all into the one pixel that is left
  shift = pad + 0x1p-8 - scale * low;
}

// The window of one picture, whose coordinates x, y lie at pixel sx x + tx, sy y + ty of the whole picture.
FDSL_INLINE Window place_window(const Spec& spec, const Key& it, double sx, double sy, double tx, double ty) {
  Window w;
  w.placement = {sx, 0.0, 0.0, sy, tx, ty};
  w.left = w.top = 0;
  w.mirror = it.flip & 2u;
  w.u0 = w.v0 = spec.pad;
  w.u1 = w.v1 = spec.of - spec.pad;
  if (spec.view == VIEW_CROP) {
    const Words r = keyed_words(spec.seed, it.category, it.instance, it.view_epoch, PURPOSE_VIEW, it.repeat, 0);
    const uint64_t room = spec.of - spec.size + 1;
    w.left = below(r.word[0], room);
    w.top = below(r.word[1], room);
  } else if (spec.view == VIEW_RANDOM) {
    const Words r = keyed_words(spec.seed, it.category, it.instance, it.view_epoch, PURPOSE_VIEW, it.repeat, 0);
    const Words q = keyed_words(spec.seed, it.category, it.instance, it.view_epoch, PURPOSE_VIEW, it.repeat, 1);
    const double area = spec.scale[0] + (spec.scale[1] - spec.scale[0]) * unit(r.word[0]);
    const double root =
        exponential(0.5 * (spec.log_ratio[0] + (spec.log_ratio[1] - spec.log_ratio[0]) * unit(r.word[1])));
    const double side = spec.of, share = exponential(0.5 * logarithm(area));
    const double width = share * root < 1.0 ? share * root : 1.0;
    const double height = share / root < 1.0 ? share / root : 1.0;
    const double cx = side * (0.5 * width + (1.0 - width) * unit(r.word[2]));
    const double cy = side * (0.5 * height + (1.0 - height) * unit(r.word[3]));
    const double turns = spec.rotation * (2.0 * unit(q.word[0]) - 1.0);
    const SineCosine angle = sine_cosine(static_cast<uint32_t>(static_cast<int64_t>(turns * 0x1p32)));
    // Turn about the crop's centre, then stretch the crop to the output.
    const double zx = 1.0 / width, zy = 1.0 / height, half = 0.5 * spec.size;
    Placement& p = w.placement;
    p = {zx * angle.cosine * sx,
         -(zx * angle.sine * sy),
         zy * angle.sine * sx,
         zy * angle.cosine * sy,
         zx * (angle.cosine * (tx - cx) - angle.sine * (ty - cy)) + half,
         zy * (angle.sine * (tx - cx) + angle.cosine * (ty - cy)) + half};
    if (unit(q.word[1]) < spec.flip) w.mirror = !w.mirror;
    w.u0 = w.v0 = -1;
    w.u1 = w.v1 = spec.size + 1;
  }
  // One more cell on each side than is seen: a patch may reach in.
  if (w.u0 < w.left - 1) w.u0 = w.left - 1;
  if (w.v0 < w.top - 1) w.v0 = w.top - 1;
  if (w.u1 > w.left + spec.size + 1) w.u1 = w.left + spec.size + 1;
  if (w.v1 > w.top + spec.size + 1) w.v1 = w.top + spec.size + 1;
  w.placement.t0 += MARGIN;
  w.placement.t1 += MARGIN;
  return w;
}

// The window of one picture that is scaled to a box.
FDSL_INLINE Window place_window(const Spec& spec, const Key& it, const Box& box) {
  double sx, sy, tx, ty;
  place_axis(box.x0, box.x1, spec.of, spec.pad, sx, tx);
  place_axis(box.y0, box.y1, spec.of, spec.pad, sy, ty);
  return place_window(spec, it, sx, sy, tx, ty);
}

}  // namespace fdsl
