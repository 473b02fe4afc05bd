#include "weights/checkpoint/pickle.hpp"

namespace flexgen::checkpoint {

namespace {

constexpr std::array globals{
    AllowedGlobal{"collections", "OrderedDict", GlobalRole::ordered_dict, {}, 0},
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v2", GlobalRole::rebuild_tensor, {}, 0},
    AllowedGlobal{"torch._utils", "_rebuild_tensor_v3", GlobalRole::rebuild_tensor_with_dtype, {}, 0},
    AllowedGlobal{"torch._utils", "_rebuild_parameter", GlobalRole::rebuild_parameter, {}, 0},
    AllowedGlobal{"torch", "FloatStorage", GlobalRole::storage, "float32", 4},
    AllowedGlobal{"torch", "HalfStorage", GlobalRole::storage, "float16", 2},
    AllowedGlobal{"torch", "BFloat16Storage", GlobalRole::storage, "bfloat16", 2},
    AllowedGlobal{"torch", "DoubleStorage", GlobalRole::storage, "float64", 8},
    AllowedGlobal{"torch", "LongStorage", GlobalRole::storage, "int64", 8},
    AllowedGlobal{"torch", "IntStorage", GlobalRole::storage, "int32", 4},
    AllowedGlobal{"torch", "ShortStorage", GlobalRole::storage, "int16", 2},
    AllowedGlobal{"torch", "CharStorage", GlobalRole::storage, "int8", 1},
    AllowedGlobal{"torch", "ByteStorage", GlobalRole::storage, "uint8", 1},
    AllowedGlobal{"torch", "BoolStorage", GlobalRole::storage, "bool", 1},
    AllowedGlobal{"torch", "ComplexFloatStorage", GlobalRole::storage, "complex64", 8},
    AllowedGlobal{"torch", "ComplexDoubleStorage", GlobalRole::storage, "complex128", 16},
    AllowedGlobal{"torch", "UntypedStorage", GlobalRole::storage, "bytes", 1},
    AllowedGlobal{"torch.storage", "UntypedStorage", GlobalRole::storage, "bytes", 1},
    AllowedGlobal{"torch", "float32", GlobalRole::dtype, "float32", 4},
    AllowedGlobal{"torch", "float16", GlobalRole::dtype, "float16", 2},
    AllowedGlobal{"torch", "bfloat16", GlobalRole::dtype, "bfloat16", 2},
    AllowedGlobal{"torch", "uint16", GlobalRole::dtype, "uint16", 2},
    AllowedGlobal{"torch", "uint32", GlobalRole::dtype, "uint32", 4},
    AllowedGlobal{"torch", "uint64", GlobalRole::dtype, "uint64", 8},
    AllowedGlobal{"torch", "float8_e4m3fn", GlobalRole::dtype, "float8_e4m3fn", 1},
    AllowedGlobal{"torch", "float8_e5m2", GlobalRole::dtype, "float8_e5m2", 1},
    AllowedGlobal{"torch", "float8_e8m0fnu", GlobalRole::dtype, "float8_e8m0fnu", 1},
    AllowedGlobal{"torch", "complex32", GlobalRole::dtype, "complex32", 4}};

}  // namespace

std::span<const AllowedGlobal> allowed_globals() { return globals; }

}  // namespace flexgen::checkpoint
