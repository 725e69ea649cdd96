--
-- Create model Customer
--
CREATE TABLE "shop_customer" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "name" varchar(100) NOT NULL, "email" varchar(254) NOT NULL UNIQUE, "joined" datetime NOT NULL, "uid" char(32) NOT NULL UNIQUE, "active" bool NOT NULL);
--
-- Create model Order
--
CREATE TABLE "shop_order" ("id" integer NOT NULL PRIMARY KEY AUTOINCREMENT, "total" decimal NOT NULL, "placed_on" date NOT NULL, "quantity" integer unsigned NOT NULL CHECK ("quantity" >= 0), "notes" text NOT NULL, "meta" text NOT NULL CHECK ((JSON_VALID("meta") OR "meta" IS NULL)), "took" bigint NULL, "customer_id" bigint NOT NULL REFERENCES "shop_customer" ("id") DEFERRABLE INITIALLY DEFERRED, CONSTRAINT "one_a_day" UNIQUE ("customer_id", "placed_on"));
CREATE INDEX "shop_order_customer_id_f638df20" ON "shop_order" ("customer_id");
