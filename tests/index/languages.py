"""A small source for each language, what it must be seen to define, use and import. Lines are 1-based."""

# ruff: noqa: E501 - the sources read best with their line breaks as written

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    """``defines`` are ``name kind line`` or ``scope.name kind line``; ``uses`` are ``name kind line``."""

    path: str
    source: str
    defines: str
    uses: str


SAMPLES = [
    Sample(
        "python/shop.py",
        "import os\nfrom .base import Shelf\n\nLIMIT = 3\n\n@cached\ndef total(x: Basket) -> int:\n    return add(x)\n\n"
        "class Shop(Shelf):\n    name = 1\n\n    def open_door(self):\n        self.lock.turn_key()\n",
        "LIMIT constant 4, total function 7, Shop class 10, Shop.name field 11, Shop.open_door method 13",
        "cached call 6, Basket type 7, add call 8, Shelf inherit 10, turn_key call 14",
    ),
    Sample(
        "javascript/app.js",
        "import { helper } from './lib.js'\nconst util = require('util')\nexport function main() { return helper(1) }\n"
        "class Car extends Vehicle {\n  drive() { this.engine.start() }\n}\nconst go = () => new Car()\n",
        "util variable 2, main function 3, Car class 4, Car.drive method 5, go function 7",
        "helper call 3, Vehicle inherit 4, start call 5, Car type 7",
    ),
    Sample(
        "typescript/app.ts",
        "import { Store } from './store'\nexport interface Point { x: number; norm(): number }\nenum Color { Red }\n"
        "type Pair = [Point, Point]\nabstract class Shape implements Drawable {\n  area(p: Point): number { return compute(p) }\n}\n"
        "export const build = (s: Store) => new Shape()\n",
        "Point interface 2, Point.x field 2, Point.norm method 2, Color enum 3, Pair type 4, Shape class 5,"
        " Shape.area method 6, build function 8",
        "Drawable inherit 5, Point type 6, compute call 6, Store type 8, Shape type 8",
    ),
    Sample(
        "tsx/view.tsx",
        "export function View(props: Props) {\n  return <Panel><Button onClick={save} /></Panel>\n}\n",
        "View function 1",
        "Props type 1, Panel call 2, Button call 2",
    ),
    Sample(
        "go/server.go",
        'package main\n\nimport "net/http"\n\nconst Port = 80\n\ntype Server struct {\n\taddr string\n}\n\n'
        "type Handler interface {\n\tServe(r *Request)\n}\n\nfunc (s *Server) Run(c Config) error {\n\treturn http.Listen(s.addr)\n}\n\n"
        "func main() { start() }\n",
        "Port constant 5, Server struct 7, Server.addr field 8, Handler interface 11, Handler.Serve method 12,"
        " Server.Run method 15, main function 19",
        "Request type 12, Config type 15, Listen call 16, start call 19",
    ),
    Sample(
        "rust/lib.rs",
        "use std::io::Read;\nmod net;\npub struct Point { x: Meters }\npub enum Shape { Dot }\npub trait Area { fn area(&self) -> f64; }\n"
        "impl Area for Point {\n    fn area(&self) -> f64 { square(self.x) }\n}\nconst MAX: u8 = 1;\nmacro_rules! twice { () => {} }\n"
        'fn main() { println!("x"); Point::make().scale(); }\n',
        "net module 2, Point struct 3, Point.x field 3, Shape enum 4, Area interface 5, Area.area method 5,"
        " Point.area method 7, MAX constant 9, twice macro 10, main function 11",
        "Meters type 3, Area inherit 6, square call 7, println call 11, make call 11, scale call 11",
    ),
    Sample(
        "java/Store.java",
        "package shop;\nimport java.util.List;\npublic class Store extends Base {\n  private Item first;\n  Store() {}\n"
        "  @Override\n  public int sum(List<Item> items) { return items.size(); }\n}\ninterface Item { }\nenum Size { BIG }\n",
        "Store class 3, Store.first field 4, Store.Store method 5, Store.sum method 7, Item interface 9, Size enum 10,"
        " Size.BIG constant 10",
        "Base inherit 3, Item type 4, List type 7, size call 7",
    ),
    Sample(
        "c/list.c",
        '#include "list.h"\n#define MAX 10\nstruct node { int value; };\ntypedef struct node node_t;\nenum mode { FAST };\n'
        "static int helper(node_t *n) { return n->value; }\nnode_t *list_new(void) { return alloc(helper); }\n",
        "MAX macro 2, node struct 3, node.value field 3, node_t type 4, mode enum 5, mode.FAST constant 5,"
        " helper function 6, list_new function 7",
        "node_t type 6, alloc call 7",
    ),
    Sample(
        "cpp/shape.cpp",
        '#include "shape.hpp"\nnamespace geo {\nclass Shape : public Base {\n public:\n  int area() const;\n  Point origin;\n};\n'
        "int Shape::area() const { return compute(origin); }\ntemplate <class T> T twice(T x) { return std::move(x); }\n}\n",
        "geo module 2, geo.Shape class 3, geo.Shape.area method 5, geo.Shape.origin field 6, geo.Shape.area method 8,"
        " geo.twice function 9",
        "Base inherit 3, Point type 6, compute call 8, move call 9",
    ),
    Sample(
        "csharp/Store.cs",
        "using System.IO;\nnamespace Shop {\n  public interface IStore { int Count(); }\n  public class Store : IStore {\n"
        "    public Item First { get; set; }\n    public int Count() { return Total(First.Price()); }\n  }\n  enum Size { Big }\n}\n",
        "Shop module 2, Shop.IStore interface 3, Shop.IStore.Count method 3, Shop.Store class 4, Shop.Store.First field 5,"
        " Shop.Store.Count method 6, Shop.Size enum 8, Shop.Size.Big constant 8",
        "IStore inherit 4, Item type 5, Total call 6, Price call 6",
    ),
    Sample(
        "ruby/shop.rb",
        "require 'json'\nmodule Trade\n  RATE = 2\n  class Shop < Base\n    def open(door)\n      door.turn(1)\n    end\n"
        "    def self.build\n      Shop.new\n    end\n  end\nend\n",
        "Trade module 2, Trade.RATE constant 3, Trade.Shop class 4, Trade.Shop.open method 5, Trade.Shop.build method 8",
        "Base inherit 4, turn call 6, Shop type 9",
    ),
    Sample(
        "php/Shop.php",
        "<?php\nuse App\\Base;\ninterface Sells { }\nclass Shop extends Base implements Sells {\n  const MAX = 3;\n  private $items;\n"
        "  public function sell(Item $item) { return $this->store->add(price($item)); }\n}\nfunction price($x) { return new Price($x); }\n",
        "Sells interface 3, Shop class 4, Shop.MAX constant 5, Shop.items field 6, Shop.sell method 7, price function 9",
        "Base inherit 4, Sells inherit 4, Item type 7, add call 7, price call 7, Price type 9",
    ),
    Sample(
        "swift/Shop.swift",
        "import Foundation\nprotocol Sells { func sell(item: Item) }\nclass Shop: Sells {\n  var name: Label = make()\n"
        "  init(x: Int) { setup() }\n  func sell(item: Item) { store.add(item) }\n}\nstruct Box {}\nenum Size { case big }\nfunc run() { }\n",
        "Sells interface 2, Sells.sell method 2, Shop class 3, Shop.name field 4, Shop.init method 5, Shop.sell method 6,"
        " Box struct 8, Size enum 9, Size.big constant 9, run function 10",
        "Item type 2, Sells inherit 3, Label type 4, make call 4, setup call 5, add call 6",
    ),
    Sample(
        "kotlin/Shop.kt",
        "package shop\nimport kotlin.io.println\ninterface Sells { fun sell(item: Item) }\nclass Shop(val owner: Person) : Sells {\n"
        "  val name = make()\n  override fun sell(item: Item) { store.add(item) }\n}\nobject Registry {}\nfun main() { Shop(x).sell(y) }\n",
        "Sells interface 3, Sells.sell method 3, Shop class 4, Shop.owner field 4, Shop.name field 5, Shop.sell method 6,"
        " Registry class 8, main function 9",
        "Item type 3, Person type 4, Sells inherit 4, make call 5, add call 6, Shop call 9, sell call 9",
    ),
    Sample(
        "scala/Shop.scala",
        "package shop\nimport scala.io.Source\ntrait Sells { def sell(item: Item): Unit }\nclass Shop(owner: Person) extends Sells {\n"
        "  val name = make()\n  def sell(item: Item): Unit = store.add(item)\n}\nobject Registry\n",
        "Sells interface 3, Sells.sell method 3, Shop class 4, Shop.name field 5, Shop.sell method 6, Registry class 8",
        "Item type 3, Person type 4, Sells inherit 4, make call 5, add call 6",
    ),
    Sample(
        "lua/shop.lua",
        "local json = require('json')\nlocal Shop = {}\nfunction Shop.new(x)\n  return build(x)\nend\nfunction Shop:sell(item)\n"
        "  self.store:add(item)\nend\nlocal function helper() end\n",
        "json variable 1, Shop variable 2, Shop.new method 3, Shop.sell method 6, helper function 9",
        "build call 4, add call 7",
    ),
    Sample(
        "bash/deploy.sh",
        '#!/bin/bash\nsource ./lib.sh\nTARGET=prod\nfunction deploy() {\n  upload_files "$1"\n}\ndeploy now\n',
        "TARGET constant 3, deploy function 4",
        "upload_files call 5, deploy call 7",
    ),
    Sample(
        "elixir/shop.ex",
        "defmodule Shop.Cart do\n  alias Shop.Item\n  def add(cart, item) do\n    Store.put(cart, item)\n  end\n  def add(cart) do\n    refresh(cart)\n  end\n"
        "  defp hidden(x), do: x\n  defmacro twice(x) do\n    x\n  end\nend\n",
        "Shop.Cart module 1, Shop.Cart.add function 3, Shop.Cart.hidden function 9, Shop.Cart.twice macro 10",
        "put call 4, Store type 4, refresh call 7",
    ),
    Sample(
        "haskell/Shop.hs",
        "module Shop where\nimport Data.List (sort)\ndata Item = Item { price :: Int } | Gift\nclass Sells a where\n  sell :: a -> Int\n"
        "total :: [Item] -> Int\ntotal [] = 0\ntotal xs = compute (map price xs)\n",
        "Shop module 1, Item type 3, Item.Item constant 3, Sells interface 4, Sells.sell method 5, total function 6",
        "compute call 8, map call 8",
    ),
    Sample(
        "zig/shop.zig",
        'const std = @import("std");\npub const Point = struct {\n    x: i32,\n    pub fn scale(self: Point) i32 {\n        return helper(self.x);\n    }\n};\n'
        "const Color = enum { red };\nfn helper(x: i32) i32 {\n    return std.math.absInt(x);\n}\n",
        "std constant 1, Point struct 2, Point.x field 3, Point.scale method 4, Color enum 8, helper function 9",
        "Point type 4, helper call 5, absInt call 10",
    ),
]
