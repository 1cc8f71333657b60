// safetensors: what is written is read back to the same bits, and every way in which a file can be
// broken is refused with its own sentence.
#include <limits>

#include "unit/io_fixture.hpp"

namespace motet {
namespace {

namespace fs = std::filesystem;

using SafetensorsTest = IoTest;

std::string packed(std::string_view header, std::string_view data = "") {
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes.append(header).append(data);
}

// The fields of a tensor's header entry.
std::string fields(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"("dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" + offsets;
}
// A header of tensor x, or of x and y.
std::string header_of(const std::string& x) { return "{\"x\":{" + x + "}}"; }
std::string header_of(const std::string& x, const std::string& y) {
  return "{\"x\":{" + x + "},\"y\":{" + y + "}}";
}

void expect_refused(const std::string& bytes, const std::string& message) {
  EXPECT_THROW_MSG(parse_safetensors(bytes, "f"), DataError, "safetensors: f: " + message);
}
// The cases are headers, each followed by the same data.
void expect_refused(const std::vector<Broken>& cases, std::string_view data) {
  for (const Broken& broken : cases) {
    expect_refused(packed(broken.bytes, data), broken.message);
  }
}

TensorFile every_dtype() {
  TensorFile file;
  file.metadata = {{"name", "caf\xc3\xa9 \"quoted\"\n"}, {"empty", ""}};
  for (const auto dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong, at::kInt,
                           at::kShort, at::kChar, at::kByte, at::kBool}) {
    file.tensors[std::string("t.") + c10::toString(dtype)] = counting({3, 1, 5}, dtype);
  }
  file.tensors["scalar"] = at::scalar_tensor(-0.0, at::kDouble);
  file.tensors["none"] = at::empty({3, 0, 2}, at::kFloat);
  file.tensors["odd"] =
      at::tensor({std::numeric_limits<double>::quiet_NaN(), HUGE_VAL, 5e-324}, at::kDouble);
  return file;
}

TEST_F(SafetensorsTest, RoundTripKeepsEveryBitOfEveryDtype) {
  const TensorFile saved = every_dtype();
  write_safetensors(path("a"), saved);
  const TensorFile mapped = read_safetensors(path("a"));
  const TensorFile copied = parse_safetensors(bytes_of(path("a")), "memory");
  for (const TensorFile* loaded : {&mapped, &copied}) {
    EXPECT_EQ(loaded->metadata, saved.metadata);
    ASSERT_EQ(loaded->tensors.size(), saved.tensors.size());
    for (const auto& [name, tensor] : saved.tensors) {
      EXPECT_TRUE(same_bits(loaded->tensors.at(name), tensor)) << name;
    }
  }
}

TEST_F(SafetensorsTest, BytesDependOnlyOnTheContents) {
  write_safetensors(path("a"), every_dtype());
  write_safetensors(path("b"), every_dtype());
  EXPECT_EQ(bytes_of(path("a")), bytes_of(path("b")));
  const Tensor x = counting({4, 3}, at::kFloat);
  write_safetensors(path("c"), {{{"x", x.t()}}, {}});
  write_safetensors(path("d"), {{{"x", x.t().contiguous()}}, {}});
  EXPECT_EQ(bytes_of(path("c")), bytes_of(path("d")));
}

TEST_F(SafetensorsTest, WrittenFileIsTheFormatToTheByte) {
  write_safetensors(
      path("a"),
      {{{"b", at::tensor({1, 2}, at::kByte)}, {"c", at::tensor({1.0}, at::kFloat)}}, {{"k", "v"}}});
  std::string header =
      R"({"__metadata__":{"k":"v"},"c":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
      R"("b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})";
  header.append((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(bytes_of(path("a")), packed(header, std::string_view("\0\0\x80\x3f\1\2", 6)));
}

TEST_F(SafetensorsTest, EmptyFileOfNoTensorsRoundTrips) {
  write_safetensors(path("a"), {});
  EXPECT_TRUE(read_safetensors(path("a")).tensors.empty());
}

TEST_F(SafetensorsTest, MappedTensorsOutliveTheFileAndNeverChangeIt) {
  write_safetensors(path("a"), {{{"x", counting({6}, at::kFloat)}}, {}});
  const std::string before = bytes_of(path("a"));
  Tensor x = read_safetensors(path("a")).tensors.at("x");
  x.mul_(-1.0);
  EXPECT_EQ(bytes_of(path("a")), before);
  fs::remove(path("a"));
  EXPECT_TRUE(at::equal(x, -counting({6}, at::kFloat)));
}

TEST_F(SafetensorsTest, UnalignedTensorsAreCopiedNotMisread) {
  const std::string header =
      header_of(fields("\"U8\"", "[1]", "[0,1]"), fields("\"F64\"", "[1]", "[1,9]"));
  const double value = 2.5;
  std::string data(9, '\7');
  std::memcpy(data.data() + 1, &value, 8);
  const Tensor y = read_safetensors(file("a", packed(header, data))).tensors.at("y");
  EXPECT_EQ(y.item<double>(), 2.5);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(y.const_data_ptr()) % 8, 0U);
}

TEST_F(SafetensorsTest, RefusesBrokenFrames) {
  const std::vector<Broken> cases = {
      {"", "file of 0 bytes, must have at least 10; it is truncated or not a safetensors file"},
      {"1234567",
       "file of 7 bytes, must have at least 10; it is truncated or not a safetensors file"},
      {packed("{}").substr(0, 9),
       "file of 9 bytes, must have at least 10; it is truncated or not a safetensors file"},
      {std::string("\x0b\0\0\0\0\0\0\0{}", 10),
       "header length 11 goes beyond the file of 10 bytes; it is truncated or not a safetensors "
       "file"},
      {std::string(8, '\xff') + "{}",
       "header length 18446744073709551615 goes beyond the file of 10 bytes; it is truncated or "
       "not a safetensors file"},
      {std::string("PK\x03\x04\0\0\x08\x08\0\0\0\0", 12),
       "is a zip archive (as torch.save and numpy.savez make), which motet never loads, because "
       "unpickling runs code from the file; convert it with safetensors.torch.save_file"},
      {std::string("\x80\x02\x8a\nl\xfc\x9c\x46\xf9\x20", 10),
       "is a pickle (as old versions of torch.save make), which motet never loads, because "
       "unpickling runs code from the file; convert it with safetensors.torch.save_file"},
      {packed("[] "),
       "header begins with \"[\", must begin with \"{\"; it is not a safetensors file"},
      {packed(" {}"),
       "header begins with \" \", must begin with \"{\"; it is not a safetensors file"},
      {packed("{\"a\xff\":1}"), "header is not UTF-8 at its byte 3"},
      {packed("{\"a\xed\xa0\x80\":1}"), "header is not UTF-8 at its byte 3"},
      {packed(std::string_view("{}\0x", 4)), "header is not valid JSON at its byte 2"},
      {packed("{}x"), "header is not valid JSON at its byte 2"},
      {packed("{\"a\":"), "header is not valid JSON at its byte 5"},
      {packed("{}", "x"), "1 bytes after the last tensor, must be 0"},
  };
  for (const Broken& broken : cases) {
    expect_refused(broken.bytes, broken.message);
    EXPECT_THROW_MSG(read_safetensors(file("f", broken.bytes)), DataError,
                     "safetensors: " + path("f") + ": " + broken.message);
  }
}

TEST_F(SafetensorsTest, RefusesBrokenHeaders) {
  const std::string ok = fields("\"U8\"", "[2]", "[0,2]");
  const auto with_dtype = [](const std::string& dtype) {
    return header_of(fields(dtype, "[2]", "[0,2]"));
  };
  const auto with_shape = [](const std::string& shape) {
    return header_of(fields("\"U8\"", shape, "[0,2]"));
  };
  const auto with_offsets = [](const std::string& offsets) {
    return header_of(fields("\"U8\"", "[2]", offsets));
  };
  const std::vector<Broken> cases = {
      {"{\"x\":{" + ok + "},\"x\":{" + ok + "}}", "header: duplicate key \"x\""},
      {R"({"__metadata__":{},"__metadata__":{}})", "header: duplicate key \"__metadata__\""},
      {R"({"__metadata__":{"a":"1","a":"2"}})", "__metadata__: duplicate key \"a\""},
      {R"({"__metadata__":{"a":1}})", "__metadata__ entry \"a\": found 1, must be a string"},
      {R"({"__metadata__":{"a":{"b":"c"}}})",
       "__metadata__ entry \"a\": found an object, must be a string"},
      {R"({"__metadata__":"a"})", "__metadata__: found \"a\", must be an object"},
      {R"({"x":null})", "tensor \"x\": found null, must be an object"},
      {R"({"x":[[[[]]]]})", "tensor \"x\": found an array, must be an object"},
      {header_of(ok + ",\"dtype\":\"U8\""), "tensor \"x\": duplicate key \"dtype\""},
      {header_of("\"dtype\":\"\"," + ok), "tensor \"x\": duplicate key \"dtype\""},
      {header_of(ok + ",\"shape\":[2]"), "tensor \"x\": duplicate key \"shape\""},
      {header_of(ok + ",\"more\":1"),
       "tensor \"x\": unknown key \"more\", must be dtype, shape or data_offsets"},
      {header_of(R"("dtype":"U8","shape":[2])"),
       "tensor \"x\": must have dtype, shape and data_offsets [begin, end]"},
      {with_offsets("[0]"), "tensor \"x\": must have dtype, shape and data_offsets [begin, end]"},
      {with_dtype("\"C64\""),
       "tensor \"x\": dtype \"C64\", must be F64, F32, F16, BF16, I64, I32, I16, I8, U8 or BOOL"},
      {with_dtype("true"), "tensor \"x\": dtype: found a boolean, must be a string"},
      {with_shape("2"), "tensor \"x\": shape: found 2, must be an array of integers >= 0"},
      {with_shape("[-2]"), "tensor \"x\": shape: found -2, must be an integer >= 0"},
      {with_shape("[2.0]"), "tensor \"x\": shape: found 2.0, must be an integer >= 0"},
      {with_shape("[[2]]"), "tensor \"x\": shape: found an array, must be an integer >= 0"},
      {with_shape("[1,1,1,1,1,1,1,1,2]"), "tensor \"x\": shape: more than 8 numbers"},
      {with_shape("[18446744073709551615]"),
       "tensor \"x\": shape: 18446744073709551615 does not fit 63 bits"},
      {with_offsets("[0,2,4]"), "tensor \"x\": data_offsets: more than 2 numbers"},
      {with_offsets("[-1,1]"), "tensor \"x\": data_offsets: found -1, must be an integer >= 0"},
      {R"({"a\u0000b\"":3})", "tensor \"a\\x00b\\x22\": found 3, must be an object"},
      {"{\"" + std::string(1025, 'n') + "\":3}", "tensor name \"" + std::string(80, 'n') +
                                                     "...\" has 1025 bytes, must have at most "
                                                     "1024"},
  };
  expect_refused(cases, "ab");
}

TEST_F(SafetensorsTest, RefusesOffsetsThatDoNotCoverTheDataOnce) {
  const auto two = [](const std::string& x, const std::string& y) {
    return header_of(fields("\"U8\"", "[2]", x), fields("\"U8\"", "[2]", y));
  };
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return header_of(fields("\"" + dtype + "\"", shape, offsets));
  };
  const std::vector<Broken> cases = {
      {two("[0,2]", "[1,3]"),
       "tensor \"y\": data begin at 1, must begin at 2, where the tensor before them ends: tensors "
       "overlap"},
      {two("[0,2]", "[0,2]"),
       "tensor \"y\": data begin at 0, must begin at 2, where the tensor before them ends: tensors "
       "overlap"},
      {two("[0,2]", "[3,5]"),
       "tensor \"y\": data_offsets [3, 5] go beyond the data of 4 bytes; the file is truncated"},
      {one("U8", "[2]", "[2,4]"),
       "tensor \"x\": data begin at 2, must begin at 0, where the tensor before them ends: there "
       "is a hole"},
      {one("U8", "[2]", "[0,2]"), "2 bytes after the last tensor, must be 0"},
      {one("U8", "[2]", "[4,2]"), "tensor \"x\": data_offsets [4, 2] end before they begin"},
      {one("F32", "[2]", "[0,4]"),
       "tensor \"x\": data_offsets [0, 4] are 4 bytes, but shape (2) of F32 needs 8"},
      {one("F32", "[]", "[0,2]"),
       "tensor \"x\": data_offsets [0, 2] are 2 bytes, but shape () of F32 needs 4"},
      {one("F64", "[4294967296,4294967296]", "[0,4]"),
       "tensor \"x\": shape (4294967296, 4294967296) has more bytes than 63 bits can count"},
      {one("F32", "[2305843009213693953]", "[0,4]"),  // 2^61 + 1: times 4 is 4 modulo 2^64
       "tensor \"x\": shape (2305843009213693953) has more bytes than 63 bits can count"},
      {one("F32", "[0,4294967296,4294967296]", "[0,0]"),
       "tensor \"x\": shape (0, 4294967296, 4294967296) has more bytes than 63 bits can count"},
      {one("BOOL", "[4]", "[0,4]"), "tensor \"x\": a BOOL must be 0 or 1, but element 2 is 255"},
  };
  expect_refused(cases, std::string_view("\0\1\xff\1", 4));
}

// A bomb of 10^9 keys is stopped by the limit on headers or, as here, by those on keys.
TEST_F(SafetensorsTest, StopsAtTheLimitsOfHeaders) {
  std::string header = "{";
  for (int i = 0; i <= 100'000; ++i) {
    header += "\"" + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)";
  }
  header.back() = '}';
  expect_refused(packed(header), "header: more than 100000 tensors");
  header = R"({"__metadata__":{)";
  for (int i = 0; i <= 10'000; ++i) {
    header += "\"" + std::to_string(i) + "\":\"\",";
  }
  header.back() = '}';
  expect_refused(packed(header + "}"), "__metadata__: more than 10000 entries");
  header = "{\"x\":" + std::string(1'000'000, '[');
  expect_refused(packed(header), "tensor \"x\": found an array, must be an object");
}

TEST_F(SafetensorsTest, RefusesHeadersOverTheLimitUnread) {
  const std::string name = file("big", std::string("\1\xe1\xf5\5\0\0\0\0", 8));  // 100,000,001
  fs::resize_file(name, 200'000'000);                                            // sparse
  EXPECT_THROW_MSG(read_safetensors(name), DataError,
                   "safetensors: " + name + ": header length 100000001, must be at most 100000000");
}

TEST_F(SafetensorsTest, RefusesEveryTruncation) {
  write_safetensors(path("a"), every_dtype());
  const std::string bytes = bytes_of(path("a"));
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THROW(parse_safetensors(bytes.substr(0, size), "f"), DataError) << size;
  }
}

TEST_F(SafetensorsTest, RefusesPathsThatAreNoFiles) {
  EXPECT_THROW_MSG(read_safetensors(path("a")), DataError,
                   "safetensors: " + path("a") + ": no such file");
  EXPECT_THROW_MSG(read_safetensors(folder_.path()), DataError,
                   "safetensors: " + folder_.path() + ": is a folder, must be a file");
}

TEST_F(SafetensorsTest, RefusesToWriteWhatTheFormatCannotHold) {
  const std::string where = "safetensors: " + path("a") + ": ";
  const Tensor x = at::zeros({2});
  struct Case {
    std::map<std::string, Tensor> tensors;
    std::string message;
  };
  const std::vector<Case> cases = {
      {{{"x", at::zeros({2}, at::kComplexFloat)}},
       "tensor \"x\": dtype ComplexFloat has no safetensors type"},
      {{{"x", Tensor()}}, "tensor \"x\": is undefined"},
      {{{"x", at::zeros({1, 1, 1, 1, 1, 1, 1, 1, 1})}},
       "tensor \"x\": has 9 dimensions, must have at most 8"},
      {{{"__metadata__", x}},
       "tensor \"__metadata__\": name must have at most 1024 bytes and not be __metadata__"},
  };
  for (const auto& [tensors, message] : cases) {
    EXPECT_THROW_MSG(write_safetensors(path("a"), {tensors, {}}), ShapeError, where + message);
  }
  EXPECT_THROW_MSG(write_safetensors(path("a"), {{{"\xff", x}}, {}}), DataError,
                   where + "tensor name \"\\xff\" is not UTF-8 at its byte 0");
  EXPECT_THROW_MSG(write_safetensors(path("a"), {{}, {{"k", "v\xff"}}}), DataError,
                   where + "metadata value \"v\\xff\" is not UTF-8 at its byte 1");
  EXPECT_TRUE(names().empty());
}

}  // namespace
}  // namespace motet
