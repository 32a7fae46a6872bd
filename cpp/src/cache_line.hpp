#pragma once

namespace fastlstm {

constexpr int kCacheLine = 64;  // bytes

}  // namespace fastlstm
