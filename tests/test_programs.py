"""What benchmarks/programs.py reads from a program, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks.devices import DEVICES, Device, estimates
from benchmarks.hlo import arrays
from benchmarks.programs import Kernel, Loop, Program


@pytest.mark.parametrize(
    ("type_", "sizes"),
    [
        ("f32[2,3]{1,0}", [24]),
        ("(bf16[4]{0}, /*index=1*/pred[5]{0}, s32[])", [8, 5, 4]),
        ("f8e4m3fn[7]", [7]),
        ("f32[262144,10]{1,0:T(8,128)}", [262144 * 128 * 4]),
        ("f32[262144,10]{0,1:T(8,128)}", [262144 * 16 * 4]),
        ("bf16[3,5,130]{2,1,0:T(8,128)(2,1)}", [3 * 8 * 256 * 2]),
        ("f32[1000]{0:T(1024)S(1)}", [4096]),
    ],
)
def test_the_size_of_an_array_has_its_tiles_filled_up(type_, sizes):
    assert [array.size for array in arrays(type_)] == sizes


def test_arrays_in_the_memory_of_the_chip_are_told_apart():
    spaces = ("{0:T(1024)}", "{0:T(1024)S(1)}", "{0:T(1024)S(5)}", "{0:S(1)}")
    assert [arrays(f"f32[8]{space}")[0].on_chip for space in spaces] == [False, True, False, False]


# 16 MiB of float32 are 2²² numbers, of which each step of the loop updates one row of 2¹² in place.
LOOPS = """
HloModule example, is_scheduled=true

%slice_row (whole: f32[1024,4096], row: s32[]) -> f32[1,4096] {
  %whole = f32[1024,4096]{1,0} parameter(0)
  %row = s32[] parameter(1)
  %zero = s32[] constant(0)
  ROOT %one = f32[1,4096]{1,0} dynamic-slice(%whole, %row, %zero), dynamic_slice_sizes={1,4096}
}

%put_row (whole.1: f32[1024,4096], new: f32[1,4096], row.1: s32[]) -> f32[1024,4096] {
  %whole.1 = f32[1024,4096]{1,0} parameter(0)
  %new = f32[1,4096]{1,0} parameter(1)
  %row.1 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %update = f32[1024,4096]{1,0} dynamic-update-slice(%whole.1, %new, %row.1, %zero.1)
}

%body (state: (s32[], f32[1024,4096])) -> (s32[], f32[1024,4096]) {
  %state = (s32[], f32[1024,4096]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[1024,4096]{1,0} get-tuple-element(%state), index=1
  %row.2 = f32[1,4096]{1,0} fusion(%x, %i), kind=kLoop, calls=%slice_row
  %x.1 = f32[1024,4096]{1,0} fusion(%x, %row.2, %i), kind=kLoop, calls=%put_row
  ROOT %next = (s32[], f32[1024,4096]{1,0}) tuple(%i, %x.1)
}

%condition (state.1: (s32[], f32[1024,4096])) -> pred[] {
  %state.1 = (s32[], f32[1024,4096]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %end = s32[]{:T(128)} constant(1024), metadata={op_name="while/cond"}
  ROOT %go = pred[] compare(%i.1, %end), direction=LT
}

ENTRY %main (x.2: f32[1024,4096]) -> f32[1024,4096] {
  %x.2 = f32[1024,4096]{1,0} parameter(0)
  %start = s32[] constant(0)
  %carry = (s32[], f32[1024,4096]{1,0}) tuple(%start, %x.2)
  %while.1 = (s32[], f32[1024,4096]{1,0}) while(%carry), condition=%condition, body=%body
  %while.2 = (s32[], f32[1024,4096]{1,0}) while(%while.1), condition=%condition, body=%body, \
backend_config={"known_trip_count":{"n":"3"},"other":{}}
  ROOT %out = f32[1024,4096]{1,0} get-tuple-element(%while.2), index=1
}
"""


def test_a_loop_counts_its_steps_and_only_the_rows_that_it_touches():
    parts = Program.parse(LOOPS).parts(list)
    assert [part for part in parts if isinstance(part, Loop)] == [Loop("while.1", 1, 1024), Loop("while.2", 1, 3)]
    row, index = 4 * 4096, 4
    kernels = {(part.name, part.runs): part.moved for part in parts if isinstance(part, Kernel)}
    assert kernels == {
        ("row.2", 1024): 2 * row + index,
        ("x.1", 1024): 2 * row + index,
        ("row.2", 3): 2 * row + index,
        ("x.1", 3): 2 * row + index,
    }


# A product of (64, 32) and (32, 16) on a TPU, as a convolution in a fusion, its result on the chip; then a conditional
# between doing nothing and reading 4 KiB, and an all-gather from 2 KiB to 8 KiB.
BRANCHES = """
%product (left: bf16[64,32], right: bf16[32,16]) -> f32[64,16] {
  %left = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %right = bf16[32,16]{1,0:T(8,128)(2,1)} parameter(1)
  ROOT %convolution = f32[64,16]{1,0:T(8,128)} convolution(%left, %right), dim_labels=bf_io->bf
}

%nothing (a: f32[1024]) -> f32[1024] {
  ROOT %a = f32[1024]{0:T(1024)} parameter(0)
}

%something (a.1: f32[1024]) -> f32[1024] {
  %a.1 = f32[1024]{0:T(1024)} parameter(0)
  ROOT %twice = f32[1024]{0:T(1024)} add(%a.1, %a.1)
}

ENTRY %main (left.1: bf16[64,32], right.1: bf16[32,16], a.2: f32[1024], i: s32[], b: f32[512]) -> f32[1024] {
  %left.1 = bf16[64,32]{1,0:T(8,128)(2,1)} parameter(0)
  %right.1 = bf16[32,16]{1,0:T(8,128)(2,1)} parameter(1)
  %a.2 = f32[1024]{0:T(1024)} parameter(2)
  %i = s32[]{:T(128)} parameter(3)
  %b = f32[512]{0:T(512)} parameter(4)
  %fusion = f32[64,16]{1,0:T(8,128)S(1)} fusion(%left.1, %right.1), kind=kOutput, calls=%product
  %gather = ((f32[512]{0:T(512)}), f32[2048]{0:T(512)}) all-gather-start(%b), dimensions={0}
  %gathered = f32[2048]{0:T(512)} all-gather-done(%gather)
  ROOT %either = f32[1024]{0:T(1024)} conditional(%i, %a.2, %a.2), branch_computations={%nothing, %something}
}
"""


def test_products_branches_and_collectives():
    program = Program.parse(BRANCHES)
    choices = {"longer": lambda branches: max(branches, key=len), "shorter": lambda branches: min(branches, key=len)}
    parts = {name: {part.name: part for part in program.parts(choose)} for name, choose in choices.items()}
    assert list(parts["shorter"]) == ["fusion", "gather"]
    assert list(parts["longer"]) == ["fusion", "gather", "twice"]
    # The operands fill tiles of 8 x 128. The result is not in memory.
    product = Kernel("fusion", "fusion", 1, 2 * 64 * 16 * 32, True, (64 + 32) * 128 * 2, 0)
    assert parts["longer"]["fusion"] == product
    assert (parts["longer"]["gather"].sent, parts["longer"]["twice"].moved) == (8192, 2 * 4096)


def test_a_dot_and_a_call_of_cublas_count_the_same_operations():
    left, right, result = "%a = f32[8,4,16]{2,1,0}", "%b = f32[8,16,2]{2,1,0}", "f32[8,4,2]{2,1,0}"
    calls = (
        "dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}, rhs_batch_dims={0}, rhs_contracting_dims={1}",
        'custom-call(%a, %b), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":'
        '{"dot_dimension_numbers":{"lhs_contracting_dimensions":["2"],"rhs_contracting_dimensions":["1"]}}}',
    )
    for call in calls:
        lines = [f"  {left} parameter(0)", f"  {right} parameter(1)", f"  ROOT %c = {result} {call}"]
        head = "ENTRY %main (a: f32[8,4,16], b: f32[8,16,2]) -> f32[8,4,2] {"
        (kernel,) = Program.parse("\n".join([head, *lines, "}"])).parts(list)
        assert (kernel.flops, kernel.half) == (2 * 8 * 4 * 2 * 16, False)
        assert kernel.moved == 4 * (8 * 4 * 16 + 8 * 16 * 2 + 8 * 4 * 2)


def test_a_program_compiled_here_has_the_steps_and_operations_of_its_source():
    def function(x, y):
        return jax.lax.scan(lambda total, row: (total + row @ y, None), jnp.zeros((32, 8)), x)[0]

    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((7, 32, 16), (16, 8))]
    device = Device("made up", "jax", "none", "", "", half=1, single=1e6, bandwidth=1e30, launch=0.5)
    longer, shorter = estimates(device, jax.jit(function).lower(*shapes).compile())
    assert longer == shorter
    assert (longer.steps, longer.unknown, longer.sent) == (7, 0, 0)
    assert longer.flops == 7 * 2 * 32 * 16 * 8
    assert longer.seconds == pytest.approx(longer.flops / 1e6 + 0.5 * longer.kernels)


def test_the_time_of_a_kernel_is_the_longer_of_arithmetic_and_traffic():
    device = DEVICES["h100"]
    bound_by_memory = Kernel("a", "fusion", 10, 0.0, True, 29 * 10**8, 0)
    bound_by_products = Kernel("b", "dot", 1, 650e12, True, 1, 0)
    assert device.seconds([bound_by_memory]) == pytest.approx(10 * (1e-3 + 4e-6))
    assert device.seconds([bound_by_products, Loop("c", 1, 5)]) == pytest.approx(1 + 4e-6)
