// Point clouds of systems in space, and scenes of them on a floor: PC-FractalDB (Yamada et al., Point Cloud
// Pre-training with Natural 3D Structures, CVPR 2022).
// On a GPU thread j owns trajectory j, of the category's own and then of the partner's; a block walks them once for
// their ends, once for their sums in whole numbers, and once to draw them.
#pragma once

#include "camera.h"
#include "picture.h"

namespace fdsl {

// One cloud; clouds.CLOUD has the same record.
struct CloudInstance {
  uint32_t category;  // row of the catalog
  uint32_t number;    // keys the partner and the trajectories, with the epoch
  uint32_t epoch;
  uint32_t boxed;  // 1 to fill `box`, 0 to stay as normalised
  uint32_t turns;  // the box's heading in 2^-32 turns, counter-clockwise about the vertical axis
  float box[7];    // centre x y z, size x y z, heading in radians
};

// The picture of a cloud that is not boxed, seen by a camera that turned about the vertical; primitives.Clouds has the
// same record.
struct CloudPicture : Key {
  uint32_t turn;
  uint32_t unused;
};

// What all clouds of a batch share.
struct CloudSpec {
  uint64_t seed;
  int32_t points;
  int32_t own;          // points of the category itself, which come first; the rest are the partner's
  uint32_t categories;  // of the catalog
  int32_t unused;
};

// What all scenes of a batch share.
struct SceneSpec {
  uint64_t seed;
  double floor;         // side of the square that the centres lie on
  uint32_t objects;     // of a scene, plus Poisson(5)
  uint32_t categories;  // to choose from
  uint32_t instances;   // of a category
  int32_t unused;
};

// A partner draws a fifth of the points, so a quarter of the trajectories is enough: theirs and the category's own are
// about equally long.
constexpr int PARTNER_TRAJECTORIES = 64;

constexpr int POISSON_MOST = 25;  // of 2^32 words, none gives more
constexpr int PLACING_TRIES = 100;
constexpr double CLEARANCE = 0.25;  // between the circles around two objects

// Poisson(5) from one word, by its distribution function in multiples of 2^-32.
FDSL_INLINE uint32_t poisson5(uint32_t word) {
  constexpr uint32_t UPTO[POISSON_MOST] = {0x01B993FEu, 0x0A5977F4u, 0x1FE931DBu, 0x43D8BD07u, 0x70C42AFDu,
                                           0x9DAF98F4u, 0xC31E7497u, 0xDDDB5A9Eu, 0xEE916A62u, 0xF7DA1DCFu,
                                           0xFC7E7785u, 0xFE9AA04Du, 0xFF7BB14Au, 0xFFD241ACu, 0xFFF12C18u,
                                           0xFFFB7A3Cu, 0xFFFEB2A7u, 0xFFFFA521u, 0xFFFFE87Cu, 0xFFFFFA35u,
                                           0xFFFFFEA4u, 0xFFFFFFB2u, 0xFFFFFFEFu, 0xFFFFFFFDu, 0xFFFFFFFFu};
  uint32_t count = 0;
  while (count < POISSON_MOST && word >= UPTO[count]) ++count;
  return count;
}

// The category whose points a cloud mixes in: any other one, all alike. The category itself where it is the only one.
FDSL_INLINE uint32_t partner_of(const CloudSpec& spec, const CloudInstance& it) {
  if (spec.categories < 2) return it.category;
  const uint32_t word = keyed_words(spec.seed, it.category, it.number, it.epoch, PURPOSE_INSTANCE, 0, 0).word[0];
  const uint32_t other = below(word, spec.categories - 1);
  return other + (other >= it.category);
}

// The objects of a scene, at most spec.objects + POISSON_MOST; returns how many.
//
// Counter (scene, object, epoch): repeat 0 gives size and heading, 1 category and number, 2 + k the centres of tries
// 2k and 2k + 1. Object 2^32 - 1 stands for the scene itself. An object that finds no place in 100 tries ends the
// scene.
FDSL_INLINE int place_objects(const SceneSpec& spec, uint32_t scene, uint32_t epoch, CloudInstance* objects) {
  const auto draw = [&](uint32_t object, uint32_t repeat) {
    return keyed_words(spec.seed, scene, object, epoch, PURPOSE_SCENE, repeat, 0);
  };
  const int wanted = static_cast<int>(spec.objects + poisson5(draw(UINT32_MAX, 0).word[0]));
  for (int i = 0; i < wanted; ++i) {
    CloudInstance& it = objects[i];
    const Words shape = draw(i, 0), what = draw(i, 1);
    const double size = 0.75 + 0.5 * unit(shape.word[0]);
    const double width = size * (0.9 + 0.2 * unit(shape.word[1])), height = size * (0.9 + 0.2 * unit(shape.word[2]));
    it.category = below(what.word[0], spec.categories);
    it.number = below(what.word[1], spec.instances);
    it.epoch = epoch;
    it.boxed = 1;
    it.turns = shape.word[3];
    it.box[2] = static_cast<float>(0.5 * height);
    it.box[3] = static_cast<float>(size);
    it.box[4] = static_cast<float>(width);
    it.box[5] = static_cast<float>(height);
    it.box[6] = static_cast<float>(static_cast<int32_t>(it.turns) * (6.283185307179586476925 * 0x1p-32));
    const auto radius = [](const CloudInstance& o) {
      const double x = o.box[3], y = o.box[4];
      return 0.5 * square_root(x * x + y * y);
    };
    const double own_radius = radius(it) + CLEARANCE;
    bool placed = false;
    Words place = {};
    for (int attempt = 0; attempt < PLACING_TRIES && !placed; ++attempt) {
      if (attempt % 2 == 0) place = draw(i, 2 + attempt / 2);
      const uint32_t* word = place.word + attempt % 2 * 2;
      it.box[0] = static_cast<float>((unit(word[0]) - 0.5) * spec.floor);
      it.box[1] = static_cast<float>((unit(word[1]) - 0.5) * spec.floor);
      placed = true;
      for (int other = 0; other < i && placed; ++other) {
        const double x = static_cast<double>(it.box[0]) - objects[other].box[0];
        const double y = static_cast<double>(it.box[1]) - objects[other].box[1];
        const double apart = own_radius + radius(objects[other]);
        placed = x * x + y * y >= apart * apart;
      }
    }
    if (!placed) return i;
  }
  return wanted;
}

// One part of a cloud, all of one category: what its points fill, and where their centroid lies once normalised.
struct CloudPart {
  float low[3], high[3];  // of the points as the system gives them
  double centroid[3];     // in [-1, 1]
};

// The published normalisation: the least of all coordinates goes to -1, the largest to 1. x -> (x - low) * scale - 1
// What is too small for that is one point.
struct MinMax {
  float low, scale;
};
FDSL_INLINE MinMax min_max(const CloudPart& part) {
  float low = part.low[0], high = part.high[0];
  for (int axis = 1; axis < 3; ++axis) {
    low = part.low[axis] < low ? part.low[axis] : low;
    high = part.high[axis] > high ? part.high[axis] : high;
  }
  const double width = static_cast<double>(high) - static_cast<double>(low);
  return {low, width > 0x1p-100 ? static_cast<float>(2.0 / width) : 0.0f};
}

// x, y, z of a part less its `low` -> xx x + xy y + tx, yx x + yy y + ty, zz z + tz
struct CloudPlacement {
  float xx, xy, yx, yy, zz, t[3];
};

// Where the points of each part go: normalised and centred each by itself, which leaves the whole centred too; then, if
// the cloud is boxed, stretched to fill the box and turned.
FDSL_INLINE void place_cloud(const CloudInstance& it, const CloudPart* parts, int count, CloudPlacement* placements) {
  double scale[2], shift[2][3], grow[3], middle[3];
  for (int p = 0; p < count; ++p) {
    const MinMax unit_range = min_max(parts[p]);
    scale[p] = unit_range.scale;
    for (int axis = 0; axis < 3; ++axis) {
      const double above = static_cast<double>(parts[p].low[axis]) - static_cast<double>(unit_range.low);
      shift[p][axis] = scale[p] * above - 1.0 - parts[p].centroid[axis];
    }
  }
  for (int axis = 0; axis < 3; ++axis) {
    double low = shift[0][axis], high = low;
    for (int p = 0; p < count; ++p) {
      const double first = shift[p][axis];
      const double last =
          first + scale[p] * (static_cast<double>(parts[p].high[axis]) - static_cast<double>(parts[p].low[axis]));
      low = first < low ? first : low;
      high = last > high ? last : high;
    }
    middle[axis] = it.boxed ? 0.5 * (low + high) : 0.0;
    grow[axis] = !it.boxed ? 1.0 : high > low ? it.box[3 + axis] / (high - low) : 0.0;
  }
  const SineCosine angle = it.boxed ? sine_cosine(it.turns) : SineCosine{0.0, 1.0};
  for (int p = 0; p < count; ++p) {
    double from[3];
    for (int axis = 0; axis < 3; ++axis) from[axis] = grow[axis] * (shift[p][axis] - middle[axis]);
    const double along = grow[0] * scale[p], across = grow[1] * scale[p];
    CloudPlacement& to = placements[p];
    to.xx = static_cast<float>(angle.cosine * along);
    to.xy = static_cast<float>(-(angle.sine * across));
    to.yx = static_cast<float>(angle.sine * along);
    to.yy = static_cast<float>(angle.cosine * across);
    to.zz = static_cast<float>(grow[2] * scale[p]);
    to.t[0] = static_cast<float>(angle.cosine * from[0] - angle.sine * from[1] + (it.boxed ? it.box[0] : 0.0));
    to.t[1] = static_cast<float>(angle.sine * from[0] + angle.cosine * from[1] + (it.boxed ? it.box[1] : 0.0));
    to.t[2] = static_cast<float>(from[2] + (it.boxed ? it.box[2] : 0.0));
  }
}

}  // namespace fdsl
