// motet scenes --out F.npy: scenes of cubes and spheres and what stands in them, as files.
#include <torch/types.h>

#include <algorithm>
#include <iostream>
#include <limits>

#include "cli/command.hpp"
#include "cli/summary.hpp"
#include "motet/image.hpp"
#include "motet/io.hpp"
#include "motet/train.hpp"
#include "run_detail.hpp"
#include "sample_run.hpp"

namespace motet::cli {
namespace {

constexpr int64_t kRowsAtOnce = 500;  // bounds the memory
constexpr int64_t kMaxScenes = 10000000;

struct Options {
  SceneOptions scenes;
  int64_t num_scenes = 1000;
  uint64_t seed = 1;
  std::string out, objects, picture;
};

// (B, 5, 3): x, y and shape of each object, NaN where a scene has no more.
Tensor objects_of(const Scenes& scenes) {
  const Tensor rows = at::cat({scenes.positions, scenes.shapes.unsqueeze(2)}, 2);
  const Tensor is_there =
      at::arange(rows.size(1)).unsqueeze(0) < scenes.num_objects.unsqueeze(1);  // (B, 5)
  return at::where(is_there.unsqueeze(2), rows, std::numeric_limits<double>::quiet_NaN());
}

void run_command(const Options& options) {
  for (const std::string& path : {options.out, options.objects, options.picture}) {
    detail::check_writable(path);
  }
  const Rng rng = Rng(options.seed).split("scenes");
  Rng first = rng;
  draw_scenes(options.scenes, 1, first);  // bad options end the run before a file is made
  NpyRowWriter writer(options.out, options.num_scenes,
                      {3, options.scenes.size, options.scenes.size});
  std::vector<Tensor> objects;
  Tensor shown;
  for (int64_t begin = 0; begin < options.num_scenes; begin += kRowsAtOnce) {
    Rng rows = rng.for_chains(begin);
    const Scenes scenes =
        draw_scenes(options.scenes, std::min(kRowsAtOnce, options.num_scenes - begin), rows);
    writer.write(begin, scenes.images);
    objects.push_back(objects_of(scenes));
    if (begin == 0) {
      shown = scenes.images;
    }
  }
  if (!options.objects.empty()) {
    write_npy(options.objects, at::cat(objects));
  }
  if (!options.picture.empty()) {
    write_png(options.picture, detail::picture_of(shown, PictureConfig{}));
  }
  writer.finish();  // the last: where it is, the others are
  print_line(std::cout, "scenes", options.out);
  for (const auto& [what, path] :
       {std::pair{"objects", options.objects}, std::pair{"png", options.picture}}) {
    if (!path.empty()) {
      print_line(std::cout, what, path);
    }
  }
}

}  // namespace

void add_scenes(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("scenes", "Draw the scenes of data.set = \"scenes\" into files");
  auto options = std::make_shared<Options>();
  command->add_option("--out", options->out, "the scenes in [-1, 1], float32 (N, 3, size, size)")
      ->required()
      ->type_name("F.npy");
  command
      ->add_option("--objects", options->objects,
                   "what stands in them, float64 (N, 5, 3): x, y, shape (0 cube, 1 sphere) of each "
                   "object, NaN beyond the last")
      ->type_name("F.npy");
  command->add_option("--png", options->picture, "the first 64 as one picture")->type_name("F.png");
  command->add_option("--num-scenes", options->num_scenes, "how many")
      ->check(CLI::Range(int64_t{1}, kMaxScenes))
      ->capture_default_str()
      ->type_name("N");
  command->add_option("--size", options->scenes.size, "pixels a side, 8 to 512")
      ->capture_default_str()
      ->type_name("P");
  command->add_option("--min-objects", options->scenes.min_objects, "1 to 5")
      ->capture_default_str()
      ->type_name("K");
  command->add_option("--max-objects", options->scenes.max_objects, "1 to 5")
      ->capture_default_str()
      ->type_name("K");
  command->add_option("--seed", options->seed, "the same seed draws the same scenes")
      ->capture_default_str()
      ->type_name("S");
  command->callback([options] { run_command(*options); });
}

}  // namespace motet::cli
