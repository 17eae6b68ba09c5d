// A decoder inside a C++ program: one model, loaded once, continues several prompts.
//
//   c++ generate.cc $(pkg-config --cflags --libs tilth) -o generate
//   ./generate MODEL "The " "Once "
#include <tilth/generate.h>

#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

namespace {

void check(tl_status status, const tl_err &err) {
  if (status != TL_OK) throw std::runtime_error(err.msg);
}

class Generator {
public:
  explicit Generator(const char *model)
      : ctx_(nullptr, tl_ctx_free), g_(nullptr, tl_generator_free) {
    tl_err err{};
    tl_ctx *ctx = nullptr;
    tl_generator *g = nullptr;
    check(tl_ctx_new(nullptr, &ctx, &err), err);
    ctx_.reset(ctx);
    check(tl_generator_open(ctx, model, &g, &err), err);
    g_.reset(g);
  }

  std::string go_on(const std::string &prompt, int tokens) {
    std::string text;
    tl_err err{};
    tl_sampling sampling = tl_sampling_defaults();
    sampling.max_tokens = tokens;
    check(tl_generator_run(g_.get(), prompt.c_str(), &sampling, append, &text, nullptr, &err), err);
    return text;
  }

private:
  static void append(void *text, const char *piece, size_t len) {
    static_cast<std::string *>(text)->append(piece, len);
  }
  std::unique_ptr<tl_ctx, void (*)(tl_ctx *)> ctx_; // outlives the generator, which borrows it
  std::unique_ptr<tl_generator, void (*)(tl_generator *)> g_;
};

} // namespace

int main(int argc, char **argv) try {
  if (argc < 3) return std::cerr << "usage: generate MODEL PROMPT...\n", 2;
  Generator generator(argv[1]);
  for (int i = 2; i < argc; i++) std::cout << argv[i] << generator.go_on(argv[i], 40) << "\n---\n";
} catch (const std::exception &e) {
  std::cerr << "generate: " << e.what() << "\n";
  return 1;
}
