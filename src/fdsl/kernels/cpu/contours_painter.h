// Drawing one picture of radial contours on one CPU thread, over any lane type. Each instruction set compiles this in
// its own file.
//
// What bounds it: a VisualAtom of 512x512 has 60,000 segments, of which some four pixels are seen. V::WIDTH vertices
// step side by side, and so do V::WIDTH segments, pixel by pixel; the pixels of one line have one value, so that their
// order does not matter, and their indices go into one list. Of 7 ns a segment on AVX-512, 1 goes to the vertices with
// their noise, 1 to what crosses the edge, 2 to the steps along the segments, and the rest to one byte stored per
// pixel, into the L2 cache.
#pragma once

#include <cstring>

#include "cpu/contours.h"
#include "shared/lines.h"

namespace fdsl {

constexpr uint32_t LANES[WIDEST] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Draws many segments of one value at once.
template <class V>
class SegmentPainter {
  using Int = typename V::Int;
  static constexpr int W = V::WIDTH;
  static constexpr uint32_t ALL = W < 32 ? (1u << W) - 1 : ~0u;

 public:
  FDSL_MEMBER SegmentPainter(uint8_t* canvas, uint32_t* list, int size)
      : canvas_(canvas), list_(list), end_(list), size_(size) {}

  // The first `count` of V::WIDTH segments between pixels. Those that lie inside as a whole step side by side, those
  // that cross the edge are cut one by one, those outside on one side are gone at once.
  FDSL_MEMBER void draw(const uint32_t* x0s, const uint32_t* y0s, const uint32_t* x1s, const uint32_t* y1s, int count,
                        uint8_t value) {
    const Int x0 = V::load(x0s), y0 = V::load(y0s), x1 = V::load(x1s), y1 = V::load(y1s), side = V::set(size_);
    const uint32_t wanted = count < W ? (1u << count) - 1 : ALL;
    const auto inside =
        V::both(V::both(V::below(x0, side), V::below(y0, side)), V::both(V::below(x1, side), V::below(y1, side)));
    const uint32_t whole = V::bits(inside) & wanted;
    if (whole != wanted) {
      const Int last = V::set(size_ - 1);
      const Int beyond = V::bit_or(V::bit_or(V::bit_and(x0, x1), V::bit_and(y0, y1)),
                                   V::bit_or(V::bit_and(V::subtract(last, x0), V::subtract(last, x1)),
                                             V::bit_and(V::subtract(last, y0), V::subtract(last, y1))));
      for (uint32_t cut = wanted & ~whole & ~V::bits(V::negative(beyond)); cut; cut &= cut - 1) {
        const int i = __builtin_ctz(cut);
        draw_line(x0s[i], y0s[i], x1s[i], y1s[i], {0, 0, size_, size_},
                  [&](int32_t x, int32_t y) { canvas_[y * size_ + x] = value; });
      }
      if (!whole) return;
    }
    const Int zero = V::set(int32_t{0}), one = V::set(int32_t{1}), down = V::set(size_);
    const Int dx = V::subtract(x1, x0), dy = V::subtract(y1, y0), wide = V::absolute(dx), high = V::absolute(dy);
    const Int across = V::select(V::negative(dx), V::set(int32_t{-1}), one);
    const Int along = V::select(V::negative(dy), V::subtract(zero, down), down);
    const auto flat = V::negative(V::subtract(high, wide));
    const Int major = V::maximum(wide, high), minor = V::minimum(wide, high);
    const Int step = V::select(flat, across, along), aside = V::add(across, along);
    const Int twice_major = V::add(major, major), twice_minor = V::add(minor, minor);
    Int index = V::add(V::multiply(y0, down), x0);
    Int remainder = V::subtract(major, twice_major);  // less 2 major: a step aside where it is not negative
    Int left = V::select(inside, V::subtract(V::set(int32_t{-1}), major), zero);  // negative: pixels to come
    if (count < W) left = V::select(V::below(V::load(LANES), V::set(count)), left, zero);
    while (const uint32_t active = V::compress(V::negative(left), index, end_)) {
      end_ += active;
      remainder = V::add(remainder, twice_minor);
      const auto straight = V::negative(remainder);
      index = V::add(index, V::select(straight, step, aside));
      remainder = V::select(straight, remainder, V::subtract(remainder, twice_major));
      left = V::add(left, one);
    }
    if (end_ - list_ > static_cast<ptrdiff_t>(FEW_PIXELS)) finish(value);
  }

  // Draws what is in the list.
  FDSL_MEMBER void finish(uint8_t value) {
    for (const uint32_t* pixel = list_; pixel < end_; ++pixel) canvas_[*pixel] = value;
    end_ = list_;
  }

 private:
  uint8_t* canvas_;
  uint32_t *list_, *end_;
  int32_t size_;
};

// One channel of the output, from the canvas through a table.
FDSL_INLINE void write_canvas(const uint8_t* canvas, int size, bool mirror, const uint8_t* value, uint8_t* out) {
  for (int row = 0; row < size; ++row, canvas += size, out += size)
    if (mirror)
      for (int column = 0; column < size; ++column) out[column] = value[canvas[size - 1 - column]];
    else
      for (int column = 0; column < size; ++column) out[column] = value[canvas[column]];
}

// The vertices of one picture, a row of numbers for each of what they are.
template <class V>
struct Vertices {
  using Float = typename V::Float;
  using Int = typename V::Int;

  int count;
  float *x, *y, *minus_cosine, *minus_sine, *bend;
  uint32_t *state_x, *state_y, *column, *line;  // the last two: the pixel that each lies at

  FDSL_MEMBER Vertices(const ContourInstance& it, uint64_t seed, uint32_t* words, size_t row) : count(it.vertices) {
    std::memset(words, 0, ContourScratch::ROWS * row * sizeof *words);
    float** const numbers[] = {&x, &y, &minus_cosine, &minus_sine, &bend};
    uint32_t** const wholes[] = {&state_x, &state_y, &column, &line};
    for (float** to : numbers) {
      *to = reinterpret_cast<float*>(words);
      words += row;
    }
    for (uint32_t** to : wholes) {
      *to = words;
      words += row;
    }
    for (int i = 0; i < count; ++i) {
      const Vertex v = make_vertex(it, seed, i);
      x[i] = v.x;
      y[i] = v.y;
      minus_cosine[i] = v.minus_cosine;
      minus_sine[i] = v.minus_sine;
      bend[i] = v.bend;
      state_x[i] = v.state_x;
      state_y[i] = v.state_y;
    }
  }

  // Moves them and finds their pixels; the first comes after the last once more.
  FDSL_MEMBER void step(Float gain, const typename V::Slopes& slopes, const ContourPlacement& placement) {
    for (int i = 0; i < count; i += V::WIDTH) {
      Int across = V::load(state_x + i), along = V::load(state_y + i), u, v;
      const Float by = V::load(bend + i);
      const Float to_x = V::fma(V::load(minus_cosine + i), push<V>(across, gain, by, slopes), V::load(x + i));
      const Float to_y = V::fma(V::load(minus_sine + i), push<V>(along, gain, by, slopes), V::load(y + i));
      V::store(state_x + i, across);
      V::store(state_y + i, along);
      V::store(x + i, to_x);
      V::store(y + i, to_y);
      place_points<V>(placement, to_x, to_y, u, v);
      V::store(column + i, u);
      V::store(line + i, v);
    }
    column[count] = column[0];
    line[count] = line[0];
  }
};

// Lines in the ground's colour, anywhere in the plane.
template <class V>
void draw_breaks(const ContourInstance& it, const Spec& spec, uint8_t ground, SegmentPainter<V>& painter) {
  constexpr int W = V::WIDTH;
  bool mirror;
  const ContourPlacement plane(spec, it, 0.0, 0.0, &mirror);
  for (int first = 0; first < it.breaks; first += W) {
    const int count = it.breaks - first < W ? it.breaks - first : W;
    float end[4][W] = {};
    uint32_t pixel[4][W];
    for (int i = 0; i < count; ++i) {
      float ends[4];
      break_ends(it, spec.seed, first + i, ends);
      for (int k = 0; k < 4; ++k) end[k][i] = ends[k];
    }
    for (int k = 0; k < 4; k += 2) {
      typename V::Int u, v;
      place_points<V>(plane, V::load(end[k]), V::load(end[k + 1]), u, v);
      V::store(pixel[k], u);
      V::store(pixel[k + 1], v);
    }
    painter.draw(pixel[0], pixel[1], pixel[2], pixel[3], count, ground);
  }
  painter.finish(ground);
}

template <class V>
void draw_contours(const ContourTask& task, void* memory) {
  const Spec& spec = *task.spec;
  const ContourInstance& it = *task.instance;
  const ContourScratch scratch(spec.size, it.vertices);
  uint32_t* const words = static_cast<uint32_t*>(memory);
  bool mirror;
  const ContourPlacement placement(spec, it, it.centre[0], it.centre[1], &mirror);

  // A grey canvas holds the values themselves, and where nothing is mirrored it is the output's first channel.
  const Palette& palette = task.palette;
  const bool gray = spec.color == COLOR_GRAY, in_place = gray && !mirror;
  const auto cell = [&](uint8_t entry) { return gray ? palette.value[entry * palette.channels] : entry; };
  const size_t pixels = static_cast<size_t>(spec.size) * spec.size;
  uint8_t* const canvas = in_place ? task.out : reinterpret_cast<uint8_t*>(words);
  std::memset(canvas, cell(0), pixels);

  Vertices<V> vertices(it, spec.seed, words + scratch.canvas, scratch.row);
  SegmentPainter<V> painter(canvas, words + scratch.canvas + ContourScratch::ROWS * scratch.row, spec.size);
  const typename V::Slopes slopes;
  const typename V::Float gain = V::set(static_cast<float>(it.gain * NOISE_SCALE));
  for (int line = 0; line < it.lines; ++line) {
    vertices.step(gain, slopes, placement);
    const uint8_t value = cell(line_shade(it, spec.seed, line));
    const uint32_t *const column = vertices.column, *const row = vertices.line;
    for (int i = 0; i < it.vertices; i += V::WIDTH)
      painter.draw(column + i, row + i, column + i + 1, row + i + 1, it.vertices - i, value);
    painter.finish(value);
  }
  if (it.breaks > 0) draw_breaks<V>(it, spec, cell(0), painter);

  for (int c = in_place; c < palette.channels; ++c) {
    uint8_t* const out = task.out + c * pixels;
    if (in_place) {
      std::memcpy(out, canvas, pixels);
      continue;
    }
    uint8_t value[256] = {};
    for (uint32_t i = 0; i < (gray ? 256 : 1 + HUES); ++i)
      value[i] = gray ? static_cast<uint8_t>(i) : palette.value[i * palette.channels + c];
    write_canvas(canvas, spec.size, mirror, value, out);
  }
}

}  // namespace fdsl
